//! Spans to an OTLP collector.
//!
//! The ids of a span are those its `trace_id`, `span_id` and `parent_span_id` fields name: the ones that the
//! middleware took from `traceparent` or sends on in it. So the exported trace, the log lines and the journal agree
//! on them, and a trace joins services without any coordination. A span without such fields belongs to the trace of
//! the span around it; one outside every trace is not exported.

mod exporter;
mod layer;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{BatchConfigBuilder, BatchSpanProcessor, SpanProcessor};
use tracing::{Level, Metadata};
use tracing_subscriber::filter::FilterFn;

pub(crate) use layer::SpanLayer;

use crate::{InitError, TelemetryConfig};

/// Spans that wait for the collector. At about a kilobyte each, a bound on memory; beyond it spans are dropped.
const QUEUE: usize = 4_096;
/// Spans in one request to the collector.
const BATCH: usize = 512;
/// How long a span waits for company.
const DELAY: Duration = Duration::from_secs(1);

/// How many spans wait. The processor drops what does not fit into its queue without a word that a metric could
/// repeat, so the places are counted here and it is never asked for one too many.
#[derive(Debug, Clone, Default)]
struct Places(Arc<AtomicUsize>);

impl Places {
    fn take(&self) -> bool {
        let free = |taken| (taken < QUEUE).then_some(taken + 1);
        let taken = self.0.fetch_update(Ordering::AcqRel, Ordering::Acquire, free).is_ok();
        if !taken {
            metrics::counter!("telemetry_spans_total", "result" => "dropped").increment(1);
        }
        taken
    }

    fn give_back(&self, spans: usize) {
        self.0.fetch_sub(spans, Ordering::AcqRel);
    }
}

/// The running export: a queue and a thread that empties it.
#[derive(Debug)]
pub(crate) struct Exporting {
    processor: Arc<BatchSpanProcessor>,
    places: Places,
}

impl Exporting {
    pub(crate) fn start(endpoint: &str, config: &TelemetryConfig) -> Result<Self, InitError> {
        let places = Places::default();
        let exporter = exporter::Counted::new(endpoint, places.clone())?;
        let batches = BatchConfigBuilder::default()
            .with_max_queue_size(QUEUE)
            .with_max_export_batch_size(BATCH)
            .with_scheduled_delay(DELAY)
            .build();
        let mut processor = BatchSpanProcessor::builder(exporter).with_batch_config(batches).build();
        let resource = Resource::builder()
            .with_service_name(config.service_name)
            .with_attributes([
                KeyValue::new("service.version", config.version),
                KeyValue::new("vcs.ref.head.revision", config.revision),
            ])
            .build();
        processor.set_resource(&resource);
        Ok(Self { processor: Arc::new(processor), places })
    }

    pub(crate) fn layer(&self) -> SpanLayer {
        SpanLayer::new(self.processor.clone(), self.places.clone())
    }

    /// Sends what is queued and ends, or gives up after `bound`.
    pub(crate) fn finish(self, bound: Duration) {
        if let Err(error) = self.processor.shutdown_with_timeout(bound) {
            tracing::warn!(%error, "the last spans were not exported");
        }
    }
}

/// Spans from `info` up; below that they are for a debugger, not a collector.
pub(crate) fn filter() -> FilterFn<fn(&Metadata<'_>) -> bool> {
    FilterFn::new(|metadata| metadata.is_span() && *metadata.level() <= Level::INFO)
}
