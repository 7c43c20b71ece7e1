//! The `supervisor` program: reads the command line, sets up logging, runs one verb, says what went wrong.

use cc_ci::supervisor::cli;
use std::process::ExitCode;

fn main() -> ExitCode {
    let cli = match cli::read(std::env::args_os()) {
        Ok(cli) => cli,
        Err(code) => return code,
    };
    let log = cli::log_to_stderr(&cli);
    let result = cli::run(cli);
    // Before the error, which is said directly.
    drop(log);
    result.unwrap_or_else(|err| cli::fault::report(&err))
}
