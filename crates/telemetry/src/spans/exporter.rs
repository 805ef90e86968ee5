//! OTLP exporter that counts exported and failed spans.

use std::time::Duration;

use opentelemetry_otlp::{Protocol, SpanExporter as OtlpExporter, WithExportConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{SpanData, SpanExporter};

use super::QueueSlots;
use crate::InitError;

/// Longest wait for the collector's answer to one batch.
const TIMEOUT: Duration = Duration::from_secs(3);

#[derive(Debug)]
pub(super) struct CountingExporter {
    inner: OtlpExporter,
    slots: QueueSlots,
}

impl CountingExporter {
    /// An exporter that sends protobuf over HTTP with a blocking client.
    ///
    /// The processor's thread has no tokio reactor, so an asynchronous client would panic in it.
    pub(super) fn new(endpoint: &str, slots: QueueSlots) -> Result<Self, InitError> {
        OtlpExporter::builder()
            .with_http()
            .with_protocol(Protocol::HttpBinary)
            .with_endpoint(format!("{}/v1/traces", endpoint.trim_end_matches('/')))
            .with_timeout(TIMEOUT)
            .build()
            .map(|inner| Self { inner, slots })
            .map_err(|error| InitError::Exporter(error.to_string()))
    }
}

impl SpanExporter for CountingExporter {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let spans = batch.len();
        self.slots.give_back(spans);
        let result = self.inner.export(batch).await;
        let label = if result.is_ok() { "exported" } else { "failed" };
        metrics::counter!("telemetry_spans_total", "result" => label).increment(spans as u64);
        result
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.inner.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.inner.set_resource(resource);
    }
}
