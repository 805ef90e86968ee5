//! The `mainstay-inventory` program: the inventory service alone.

use std::process::ExitCode;

fn main() -> ExitCode {
    inventory_service::run(std::env::args_os())
}
