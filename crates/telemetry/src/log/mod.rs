//! Log lines: the filter, the fields, the two output formats and the writer thread.

mod fields;
mod filter;
mod format;
mod layer;
mod lines;
mod sample;

pub(crate) use filter::EventFilter;
pub(crate) use layer::LogLayer;
pub(crate) use lines::{Dropped, start};

/// Output stream of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Destination {
    /// Standard output, for services.
    Stdout,
    /// Standard error, for commands that print their result to standard output.
    Stderr,
}

/// Checks that `text` is a valid [`TelemetryConfig::log_filter`](crate::TelemetryConfig). The error says why it is not.
pub fn check_filter(text: &str) -> Result<(), String> {
    EventFilter::parse(text, false).map(drop)
}
