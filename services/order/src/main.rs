//! The order service as a program of its own.

use std::process::ExitCode;

fn main() -> ExitCode {
    order_service::run(std::env::args_os())
}
