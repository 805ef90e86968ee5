//! The `mainstay-order` program: the order service alone.

use std::process::ExitCode;

fn main() -> ExitCode {
    order_service::run(std::env::args_os())
}
