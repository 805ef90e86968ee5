//! The inventory service as a program of its own.

use std::process::ExitCode;

fn main() -> ExitCode {
    inventory_service::run(std::env::args_os())
}
