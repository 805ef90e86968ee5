//! Logs, spans and metrics, set up by one call in `main`.
//!
//! * Logs: one JSON object a line, or a readable line when a person watches. Every line of a request carries its
//!   `correlation_id` and `trace_id`, taken from the span around it.
//! * Spans: to an OTLP collector, when one is configured. The ids are those that travel in `traceparent`, so one
//!   trace joins both services, its log lines and its journal entries.
//! * Metrics: Prometheus text, from [`render_metrics`].
//!
//! Lines go out together, up to 5 ms after they were made. All three are bounded and give way: when standard output or
//! the collector does not keep up, lines and spans are dropped and counted. No request waits for its own telemetry.

mod log;
mod metrics_text;
mod panics;
mod process;
mod spans;

use std::time::Duration;

use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::registry;

pub use log::{Destination, check_filter};
pub use metrics_text::{SECONDS_BUCKETS, render_metrics};

/// What is set up.
#[derive(Debug, Clone)]
pub struct TelemetryConfig {
    /// `service.name` on every log line and span.
    pub service_name: &'static str,
    /// The release.
    pub version: &'static str,
    /// The source revision.
    pub revision: &'static str,
    /// Which log lines are written, as `RUST_LOG` takes it. Spans are made whatever it says, but for those of attempts,
    /// which only a collector reads.
    pub log_filter: String,
    /// Where log lines go.
    pub destination: Destination,
    /// The OTLP collector's base URL (`http://127.0.0.1:4318`); no spans are exported without one.
    pub otlp_endpoint: Option<String>,
}

impl TelemetryConfig {
    /// Log lines of level `info` and above to standard output, and no spans.
    pub fn new(service_name: &'static str, version: &'static str, revision: &'static str) -> Self {
        Self {
            service_name,
            version,
            revision,
            log_filter: "info".to_owned(),
            destination: Destination::Stdout,
            otlp_endpoint: None,
        }
    }
}

/// Why telemetry could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    /// The filter cannot be read.
    #[error("RUST_LOG: {0}")]
    Filter(String),
    /// A second call in one process.
    #[error("telemetry is set up already in this process")]
    Twice,
    /// A thread could not be started.
    #[error("a telemetry thread could not be started: {0}")]
    Thread(#[from] std::io::Error),
    /// The endpoint cannot be used.
    #[error("OTEL_EXPORTER_OTLP_ENDPOINT: {0}")]
    Exporter(String),
}

/// Keeps telemetry going; what is still queued goes out when it is dropped, or is given up after
/// [`Guard::FLUSH_BOUND`] each for spans and lines.
#[derive(Debug)]
#[must_use = "dropping the guard ends telemetry; keep it until the end of main"]
pub struct Guard {
    spans: Option<spans::Exporting>,
    lines: log::Lines,
}

impl Guard {
    /// The longest wait for a collector, or a reader of the log, at the end of a process.
    pub const FLUSH_BOUND: Duration = Duration::from_secs(2);
}

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some(spans) = self.spans.take() {
            spans.finish(Self::FLUSH_BOUND);
        }
        self.lines.flush(Self::FLUSH_BOUND);
    }
}

/// Sets up logs, spans and metrics for the whole process.
pub fn init(config: &TelemetryConfig) -> Result<Guard, InitError> {
    metrics_text::install(config)?;
    let lines = log::Lines::start(config.destination)?;
    let logs = log::LogLayer::new(config.service_name, lines.clone(), config.destination);
    let filter = log::EventFilter::parse(&config.log_filter, config.otlp_endpoint.is_some())
        .map_err(InitError::Filter)?;
    let spans =
        config.otlp_endpoint.as_deref().map(|url| spans::Exporting::start(url, config)).transpose()?;
    let exported = spans.as_ref().map(|spans| spans.layer().with_filter(spans::filter()));
    let subscriber = registry().with(exported).with(logs).with(filter);
    tracing::subscriber::set_global_default(subscriber).map_err(|_| InitError::Twice)?;
    panics::log_them();
    Ok(Guard { spans, lines })
}
