//! The `proxy-shim` program: reads the command line, runs one verb, says what went wrong.

use cc_ci::proxy::cli;
use std::process::ExitCode;

fn main() -> ExitCode {
    match cli::read(std::env::args_os()) {
        Ok(cli) => cli::run(cli),
        Err(code) => code,
    }
}
