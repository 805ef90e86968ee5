//! Shared parts of the pair's benchmarks: starting a pair, and placing orders.

pub mod draw;
pub mod load;
pub mod variant;

use std::process::ExitCode;

/// Runs a service if the program's first argument names one, and returns its exit code. Otherwise returns `None`.
///
/// The services are processes of the benchmark's own program, so that no other program need be built.
pub fn as_service() -> Option<ExitCode> {
    let mut args = std::env::args_os();
    let own = args.next();
    let name = args.next()?;
    let args = own.into_iter().chain(args);
    match name.to_str() {
        Some("mainstay-order") => Some(order_service::run(args)),
        Some("mainstay-inventory") => Some(inventory_service::run(args)),
        _ => None,
    }
}

/// The median, or NaN without figures.
pub fn median(figures: impl Iterator<Item = f64>) -> f64 {
    let mut figures: Vec<f64> = figures.collect();
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied().unwrap_or(f64::NAN)
}
