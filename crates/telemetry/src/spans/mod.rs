//! Export of spans to an OTLP collector.
//!
//! The fields `trace_id`, `span_id` and `parent_span_id` give a span its ids. The middleware fills them with the ids
//! that it received in `traceparent`, or that it sends in it. So the exported trace, the log lines and the journal
//! have the same ids, and a trace joins the services without coordination between them.
//!
//! A span without these fields belongs to the trace of the enclosing span. A span outside every trace is not exported.

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

/// Most spans that wait for the collector; further spans are dropped. At about a kilobyte each, this bounds memory to
/// about 4 MiB.
const QUEUE: usize = 4_096;
/// Spans in one request to the collector.
const BATCH: usize = 512;
/// Longest time that a span waits for its batch to fill.
const DELAY: Duration = Duration::from_secs(1);

/// Counter of the spans in the processor's queue.
///
/// The processor drops spans silently when its queue is full, so a metric could not count them. This counter drops
/// and counts them first, and the processor's queue never overflows.
#[derive(Debug, Clone, Default)]
struct QueueSlots(Arc<AtomicUsize>);

impl QueueSlots {
    fn take(&self) -> bool {
        let free = |used| (used < QUEUE).then_some(used + 1);
        let used = self.0.fetch_update(Ordering::AcqRel, Ordering::Acquire, free).is_ok();
        if !used {
            metrics::counter!("telemetry_spans_total", "result" => "dropped").increment(1);
        }
        used
    }

    fn give_back(&self, spans: usize) {
        self.0.fetch_sub(spans, Ordering::AcqRel);
    }
}

/// The running export: a queue of spans and the thread that sends them.
#[derive(Debug)]
pub(crate) struct SpanExport {
    processor: Arc<BatchSpanProcessor>,
    slots: QueueSlots,
}

impl SpanExport {
    pub(crate) fn start(endpoint: &str, config: &TelemetryConfig) -> Result<Self, InitError> {
        let slots = QueueSlots::default();
        let exporter = exporter::CountingExporter::new(endpoint, slots.clone())?;
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
                KeyValue::new("service.instance.id", config.instance_id.clone()),
                KeyValue::new("deployment.environment.name", config.environment.clone()),
                KeyValue::new("vcs.ref.head.revision", config.revision),
            ])
            .build();
        processor.set_resource(&resource);
        Ok(Self { processor: Arc::new(processor), slots })
    }

    pub(crate) fn layer(&self) -> SpanLayer {
        SpanLayer::new(self.processor.clone(), self.slots.clone())
    }

    /// Sends the queued spans and stops the export, after `bound` at the latest.
    pub(crate) fn finish(self, bound: Duration) {
        if let Err(error) = self.processor.shutdown_with_timeout(bound) {
            tracing::warn!(%error, "span export at shutdown failed; the last spans are lost");
        }
    }
}

/// Filter that exports spans of level `info` and above. Lower levels are for debugging one process.
pub(crate) fn filter() -> FilterFn<fn(&Metadata<'_>) -> bool> {
    FilterFn::new(|metadata| metadata.is_span() && *metadata.level() <= Level::INFO)
}
