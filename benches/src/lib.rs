//! What the benchmarks of the pair share: starting a pair, ours or another, and placing orders.

pub mod draw;
pub mod load;
pub mod variant;

use std::process::ExitCode;

/// The services run as processes of the benchmark's own program: `Some` when this process is one of them, and has
/// ended.
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

/// The one in the middle.
pub fn median(figures: impl Iterator<Item = f64>) -> f64 {
    let mut figures: Vec<f64> = figures.collect();
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied().unwrap_or(f64::NAN)
}
