//! The OTLP exporter, with a count of what became of its spans.

use std::time::Duration;

use opentelemetry_otlp::{Protocol, SpanExporter as OtlpExporter, WithExportConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{SpanData, SpanExporter};

use super::Places;
use crate::InitError;

/// The longest wait for the collector's answer to one batch.
const TIMEOUT: Duration = Duration::from_secs(3);

#[derive(Debug)]
pub(super) struct Counted {
    inner: OtlpExporter,
    places: Places,
}

impl Counted {
    /// Protobuf over HTTP, with a blocking client: the processor's thread has no reactor, and an asynchronous one
    /// would panic there.
    pub(super) fn new(endpoint: &str, places: Places) -> Result<Self, InitError> {
        OtlpExporter::builder()
            .with_http()
            .with_protocol(Protocol::HttpBinary)
            .with_endpoint(format!("{}/v1/traces", endpoint.trim_end_matches('/')))
            .with_timeout(TIMEOUT)
            .build()
            .map(|inner| Self { inner, places })
            .map_err(|error| InitError::Exporter(error.to_string()))
    }
}

impl SpanExporter for Counted {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let spans = batch.len();
        self.places.give_back(spans);
        let result = self.inner.export(batch).await;
        let became = if result.is_ok() { "exported" } else { "failed" };
        metrics::counter!("telemetry_spans_total", "result" => became).increment(spans as u64);
        result
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.inner.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.inner.set_resource(resource);
    }
}
