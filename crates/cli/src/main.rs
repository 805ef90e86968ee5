//! The `mainstay` command: the pair on this machine, and everything people do with it.
//!
//! The same executable is both services as well (`mainstay mainstay-order serve`), so that one `cargo run`
//! builds everything there is.

mod client;
mod commands;
mod demo;
mod explain;
mod process;
mod replay;
mod retail;
mod screen;
mod signals;
mod state;
mod verify;

use std::process::ExitCode;

use clap::Parser;

use commands::Cli;

/// The code that a shell reports of a program that SIGPIPE has ended.
const OUTPUT_CLOSED: u8 = 141;

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1).peekable();
    // What follows is the service's own command line, its name in the place of the program's.
    match arguments.peek().and_then(|first| first.to_str()) {
        Some("mainstay-order") => order_service::run(&mut arguments),
        Some("mainstay-inventory") => inventory_service::run(&mut arguments),
        _ => command(),
    }
}

fn command() -> ExitCode {
    let cli = Cli::parse();
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("mainstay: the runtime cannot be started: {error}");
            return ExitCode::FAILURE;
        }
    };
    let code = runtime.block_on(cli.run()).unwrap_or_else(|error| {
        if screen::is_output_closed(&error) {
            return ExitCode::from(OUTPUT_CLOSED);
        }
        let told = format!("{error:#}").replace(|c| c != '\n' && !screen::is_harmless(c), "\u{fffd}");
        eprintln!("mainstay: {told}");
        ExitCode::FAILURE
    });
    // A reader of standard input or a look-up of a name may still sit in a thread of its own.
    runtime.shutdown_background();
    code
}
