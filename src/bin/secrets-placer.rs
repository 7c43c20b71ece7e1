//! The `secrets-placer` program: reads the command line, runs one verb, says what went wrong.

use cc_ci::secrets::cli;
use std::process::ExitCode;

/// Whatever library had a secret in its hands: no memory goes back before it is wiped.
#[global_allocator]
static WIPED: zeroizing_alloc::ZeroAlloc<std::alloc::System> = zeroizing_alloc::ZeroAlloc(std::alloc::System);

fn main() -> ExitCode {
    match cli::read(std::env::args_os()) {
        Ok(cli) => cli::run(cli),
        Err(code) => code,
    }
}
