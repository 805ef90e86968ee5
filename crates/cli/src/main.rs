//! The `mainstay` command: it runs the pair on this machine, and explains, verifies and loads it.
//!
//! The same executable also contains both services (`mainstay mainstay-order serve`), so that one `cargo run` builds
//! the whole project.

mod commands;
mod demo;
mod explain;
mod feeds;
mod process;
mod screen;
mod signals;
mod state;
mod verify;

use std::process::ExitCode;

use clap::Parser;

use commands::Cli;

/// The exit code that a shell reports for a program that SIGPIPE has ended.
const OUTPUT_CLOSED: u8 = 141;

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1).peekable();
    // After the service's name comes the service's own command line; the name takes the place of the program's.
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
        let message = format!("{error:#}").replace(|c| c != '\n' && !screen::is_harmless(c), "\u{fffd}");
        eprintln!("mainstay: {message}");
        ExitCode::FAILURE
    });
    // A read of standard input or a name look-up may still block a thread; do not wait for it.
    runtime.shutdown_background();
    code
}
