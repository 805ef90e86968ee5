//! OTLP exporter over HTTP that counts exported and failed spans.

use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{Request, Uri};
use http_body_util::Full;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::transform::common::tonic::ResourceAttributesWithSchema;
use opentelemetry_proto::transform::trace::tonic::group_spans_by_resource_and_scope;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::{OTelSdkError, OTelSdkResult};
use opentelemetry_sdk::trace::{SpanData, SpanExporter};
use prost::Message;

use super::QueueSlots;
use crate::InitError;

/// Longest wait for the collector's answer to one batch.
const TIMEOUT: Duration = Duration::from_secs(3);

/// An exporter that sends protobuf with an HTTP/1.1 client. The library's own exporter brings a second HTTP client into
/// the build.
#[derive(Debug)]
pub(super) struct CountingExporter {
    endpoint: Uri,
    resource: ResourceAttributesWithSchema,
    slots: QueueSlots,
}

impl CountingExporter {
    pub(super) fn new(endpoint: &str, slots: QueueSlots) -> Result<Self, InitError> {
        let endpoint = format!("{}/v1/traces", endpoint.trim_end_matches('/'));
        let endpoint = endpoint.parse().map_err(|error| InitError::Exporter(format!("{error}")))?;
        Ok(Self { endpoint, resource: ResourceAttributesWithSchema::default(), slots })
    }

    /// Sends one batch on a runtime of its own, because the processor's thread has none. One batch a second needs no
    /// connection pool.
    fn send(&self, batch: Vec<SpanData>) -> Result<(), String> {
        let resource_spans = group_spans_by_resource_and_scope(batch, &self.resource);
        let body = ExportTraceServiceRequest { resource_spans }.encode_to_vec();
        let request = Request::post(&self.endpoint)
            .header(CONTENT_TYPE, "application/x-protobuf")
            .body(Full::<Bytes>::from(body))
            .map_err(|error| error.to_string())?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| error.to_string())?;
        let answer = runtime.block_on(async {
            let client = Client::builder(TokioExecutor::new()).build_http();
            tokio::time::timeout(TIMEOUT, client.request(request)).await
        });
        match answer {
            Ok(Ok(response)) if response.status().is_success() => Ok(()),
            Ok(Ok(response)) => Err(format!("the collector answered {}", response.status())),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err(format!("the collector did not answer within {TIMEOUT:?}")),
        }
    }
}

impl SpanExporter for CountingExporter {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let spans = batch.len();
        self.slots.give_back(spans);
        let result = self.send(batch);
        let label = if result.is_ok() { "exported" } else { "failed" };
        metrics::counter!("telemetry_spans_total", "result" => label).increment(spans as u64);
        result.map_err(OTelSdkError::InternalFailure)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.resource = resource.into();
    }
}
