//! Log lines: which are written, what they say, and how they get out.

mod fields;
mod filter;
mod format;
mod layer;
mod lines;

pub(crate) use filter::EventFilter;
pub(crate) use layer::LogLayer;
pub(crate) use lines::Lines;

/// Where log lines go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Destination {
    /// Standard output: services.
    Stdout,
    /// Standard error: commands whose output is their result.
    Stderr,
}

/// Whether `text` is a filter that [`TelemetryConfig::log_filter`](crate::TelemetryConfig) takes.
pub fn check_filter(text: &str) -> Result<(), String> {
    EventFilter::parse(text, false).map(drop)
}
