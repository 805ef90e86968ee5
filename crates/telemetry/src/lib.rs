//! Logs, spans and metrics, set up by one call to [`init`] in `main`.
//!
//! * Logs: one JSON object per line, or readable text when the output is a terminal. Every log line of a request
//!   carries the request's `correlation_id` and `trace_id`, taken from the enclosing span.
//! * Spans (feature `otlp`): sent to an OTLP collector, when one is configured. Their ids are the ids in `traceparent`, so one trace
//!   joins both services, their log lines and their journal entries.
//! * Metrics: Prometheus text, from [`render_metrics`].
//!
//! A request never waits for its telemetry. The queues
//! for lines and spans are bounded: when standard output or the collector is too slow, lines and spans are dropped
//! and counted.

mod log;
mod metrics_text;
mod panics;
mod process;
#[cfg(feature = "otlp")]
mod spans;

use std::num::NonZeroU32;
use std::time::Duration;

use tracing_appender::non_blocking::WorkerGuard;
#[cfg(feature = "otlp")]
use tracing_subscriber::layer::Layer;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry;

pub use log::{Destination, check_filter};
pub use metrics_text::{SECONDS_BUCKETS, render_metrics};

/// Settings of [`init`].
#[derive(Debug, Clone)]
pub struct TelemetryConfig {
    /// `service.name` on every log line and span.
    pub service_name: &'static str,
    /// Release version of the service.
    pub version: &'static str,
    /// Source revision that the service was built from.
    pub revision: &'static str,
    /// `service.instance.id`: name of this process among the replicas of the service. [`TelemetryConfig::new`] makes a
    /// random one.
    pub instance_id: String,
    /// `deployment.environment.name`: `production`, `staging`, `local`.
    pub environment: String,
    /// Of the canonical lines of successful reads, one in this many is written, for each route; each other line is
    /// written. 1 writes all.
    pub good_reads: NonZeroU32,
    /// Filter for log lines, in the syntax of `RUST_LOG`.
    ///
    /// The filter does not affect spans, with one exception: without a collector, the span of a call attempt is not
    /// created, because only a collector reads it.
    pub log_filter: String,
    /// Output stream of log lines.
    pub destination: Destination,
    /// Base URL of the OTLP collector, such as `http://127.0.0.1:4318`. Without one, no spans are exported.
    pub otlp_endpoint: Option<String>,
}

impl TelemetryConfig {
    /// Settings that write log lines of level `info` and above to standard output and export no spans.
    pub fn new(service_name: &'static str, version: &'static str, revision: &'static str) -> Self {
        Self {
            service_name,
            version,
            revision,
            instance_id: uuid::Uuid::new_v4().to_string(),
            environment: "local".to_owned(),
            good_reads: NonZeroU32::MIN,
            log_filter: "info".to_owned(),
            destination: Destination::Stdout,
            otlp_endpoint: None,
        }
    }
}

/// An error of [`init`].
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    /// The log filter is invalid.
    #[error("RUST_LOG: {0}")]
    Filter(String),
    /// [`init`] was called a second time in one process.
    #[error("telemetry is already set up in this process")]
    Twice,
    /// A telemetry thread did not start.
    #[error("a telemetry thread did not start: {0}")]
    Thread(#[from] std::io::Error),
    /// The OTLP endpoint is invalid.
    #[error("OTEL_EXPORTER_OTLP_ENDPOINT: {0}")]
    Exporter(String),
}

/// Guard of the running telemetry.
///
/// Dropping it sends the queued spans and then writes the queued log lines. Each of the two steps stops after
/// [`Guard::FLUSH_BOUND`] at the latest.
#[derive(Debug)]
#[must_use = "dropping the guard ends telemetry; keep it until the end of main"]
pub struct Guard {
    #[cfg(feature = "otlp")]
    spans: Option<spans::SpanExport>,
    _writer: WorkerGuard,
}

impl Guard {
    /// Longest wait at the end of the process for the collector, and as long again for the reader of the log.
    pub const FLUSH_BOUND: Duration = Duration::from_secs(2);
}

#[cfg(feature = "otlp")]
impl Drop for Guard {
    fn drop(&mut self) {
        if let Some(spans) = self.spans.take() {
            spans.finish(Self::FLUSH_BOUND);
        }
    }
}

/// Sets up logs, spans and metrics for the whole process.
pub fn init(config: &TelemetryConfig) -> Result<Guard, InitError> {
    let (lines, dropped_lines, writer) = log::start(config.destination);
    metrics_text::install(config, dropped_lines)?;
    let logs = log::LogLayer::new(config, lines);
    let filter = log::EventFilter::parse(&config.log_filter, config.otlp_endpoint.is_some())
        .map_err(InitError::Filter)?;
    #[cfg(feature = "otlp")]
    let spans =
        config.otlp_endpoint.as_deref().map(|url| spans::SpanExport::start(url, config)).transpose()?;
    #[cfg(feature = "otlp")]
    let exported = spans.as_ref().map(|spans| spans.layer().with_filter(spans::filter()));
    #[cfg(not(feature = "otlp"))]
    let exported = match config.otlp_endpoint {
        Some(_) => return Err(InitError::Exporter("built without the feature `otlp`".to_owned())),
        None => None::<tracing_subscriber::layer::Identity>,
    };
    let subscriber = registry().with(exported).with(logs).with(filter);
    tracing::subscriber::set_global_default(subscriber).map_err(|_| InitError::Twice)?;
    panics::install_hook();
    Ok(Guard {
        #[cfg(feature = "otlp")]
        spans,
        _writer: writer,
    })
}
