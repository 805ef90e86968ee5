//! The OTLP exporter, with a count of what became of its spans.

use std::time::Duration;

use opentelemetry_otlp::{Protocol, SpanExporter as OtlpExporter, WithExportConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{SpanData, SpanExporter};

use crate::InitError;

/// The longest wait for the collector's answer to one batch.
const TIMEOUT: Duration = Duration::from_secs(3);

#[derive(Debug)]
pub(super) struct Counted(OtlpExporter);

impl Counted {
    /// Protobuf over HTTP, with a blocking client: the processor's thread has no reactor, and an asynchronous one
    /// would panic there.
    pub(super) fn new(endpoint: &str) -> Result<Self, InitError> {
        OtlpExporter::builder()
            .with_http()
            .with_protocol(Protocol::HttpBinary)
            .with_endpoint(format!("{}/v1/traces", endpoint.trim_end_matches('/')))
            .with_timeout(TIMEOUT)
            .build()
            .map(Self)
            .map_err(|error| InitError::Exporter(error.to_string()))
    }
}

impl SpanExporter for Counted {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let spans = batch.len() as u64;
        let result = self.0.export(batch).await;
        let became = if result.is_ok() { "exported" } else { "failed" };
        metrics::counter!("telemetry_spans_total", "result" => became).increment(spans);
        result
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.0.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.0.set_resource(resource);
    }
}
