//! From `tracing` spans to OpenTelemetry ones.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use opentelemetry::trace::{SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState};
use opentelemetry::{InstrumentationScope, KeyValue, Value};
use opentelemetry_sdk::trace::{
    BatchSpanProcessor, IdGenerator, RandomIdGenerator, SpanData, SpanEvents, SpanLinks, SpanProcessor,
};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Metadata, Subscriber};
use tracing_subscriber::layer::{Context, Layer};
use tracing_subscriber::registry::LookupSpan;

use super::Places;

/// Attributes kept for one span; a loop that records for ever cannot grow it without end.
const MAX_ATTRIBUTES: usize = 64;

pub(crate) struct SpanLayer {
    processor: Arc<BatchSpanProcessor>,
    places: Places,
    scope: InstrumentationScope,
}

impl SpanLayer {
    pub(super) fn new(processor: Arc<BatchSpanProcessor>, places: Places) -> Self {
        Self { processor, places, scope: InstrumentationScope::builder("mainstay").build() }
    }
}

/// A span that is open.
#[derive(Debug)]
struct Open {
    trace_id: TraceId,
    span_id: SpanId,
    parent: SpanId,
    parent_is_remote: bool,
    name: Cow<'static, str>,
    kind: SpanKind,
    began: SystemTime,
    attributes: Vec<KeyValue>,
    dropped: u32,
}

impl Open {
    /// `None` when it belongs to no trace.
    fn new(
        metadata: &'static Metadata<'static>,
        seen: Seen,
        around: Option<(TraceId, SpanId)>,
    ) -> Option<Self> {
        let random = RandomIdGenerator::default();
        let (trace_id, parent) = match (seen.trace_id, around) {
            (Some(own), around) => {
                // A caller's id stands in a field; within the process it is the span around this one.
                let local = around.filter(|(trace_id, _)| *trace_id == own).map(|(_, span_id)| span_id);
                (own, seen.parent.or(local))
            }
            (None, Some((trace_id, span_id))) => (trace_id, Some(span_id)),
            (None, None) => return None,
        };
        Some(Self {
            trace_id,
            span_id: seen.span_id.unwrap_or_else(|| random.new_span_id()),
            parent: parent.unwrap_or(SpanId::INVALID),
            parent_is_remote: seen.parent.is_some() && seen.kind == Some(SpanKind::Server),
            name: seen.name.map_or(Cow::Borrowed(metadata.name()), Cow::Owned),
            kind: seen.kind.unwrap_or(SpanKind::Internal),
            began: opentelemetry::time::now(),
            attributes: seen.attributes,
            dropped: seen.dropped,
        })
    }

    /// Whether the span failed, by the semantic conventions: a server by 5xx, a client by any error status.
    fn status(&self) -> Status {
        let code = self.attributes.iter().find(|a| a.key.as_str() == "http.response.status_code");
        let Some(Value::I64(code)) = code.map(|a| &a.value) else { return Status::Unset };
        let failed = match self.kind {
            SpanKind::Client => *code >= 400,
            SpanKind::Server | SpanKind::Internal | SpanKind::Producer | SpanKind::Consumer => *code >= 500,
        };
        if failed { Status::error("") } else { Status::Unset }
    }

    fn close(self, scope: InstrumentationScope) -> SpanData {
        let status = self.status();
        SpanData {
            span_context: SpanContext::new(
                self.trace_id,
                self.span_id,
                TraceFlags::SAMPLED,
                false,
                TraceState::default(),
            ),
            parent_span_id: self.parent,
            parent_span_is_remote: self.parent_is_remote,
            span_kind: self.kind,
            name: self.name,
            start_time: self.began,
            end_time: opentelemetry::time::now(),
            attributes: self.attributes,
            dropped_attributes_count: self.dropped,
            events: SpanEvents::default(),
            links: SpanLinks::default(),
            status,
            instrumentation_scope: scope,
        }
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for SpanLayer {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        let mut seen = Seen::default();
        attributes.record(&mut seen);
        let around = span
            .scope()
            .skip(1)
            .find_map(|outer| outer.extensions().get::<Open>().map(|open| (open.trace_id, open.span_id)));
        if let Some(open) = Open::new(attributes.metadata(), seen, around) {
            span.extensions_mut().insert(open);
        }
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        let mut extensions = span.extensions_mut();
        let Some(open) = extensions.get_mut::<Open>() else { return };
        let mut seen = Seen { attributes: std::mem::take(&mut open.attributes), ..Seen::default() };
        values.record(&mut seen);
        open.attributes = seen.attributes;
        open.dropped += seen.dropped;
        if let Some(name) = seen.name {
            open.name = Cow::Owned(name);
        }
    }

    fn on_close(&self, id: Id, context: Context<'_, S>) {
        let Some(span) = context.span(&id) else { return };
        let open = span.extensions_mut().remove::<Open>();
        if let Some(open) = open
            && self.places.take()
        {
            self.processor.on_end(open.close(self.scope.clone()));
        }
    }
}

/// What the fields of a span say.
#[derive(Debug, Default)]
struct Seen {
    trace_id: Option<TraceId>,
    span_id: Option<SpanId>,
    parent: Option<SpanId>,
    kind: Option<SpanKind>,
    name: Option<String>,
    attributes: Vec<KeyValue>,
    dropped: u32,
}

impl Seen {
    fn text(&mut self, field: &Field, text: &str) {
        match field.name() {
            "trace_id" => self.trace_id = TraceId::from_hex(text).ok().filter(|id| *id != TraceId::INVALID),
            "span_id" => self.span_id = span_id(text),
            "parent_span_id" => self.parent = span_id(text),
            "otel.name" => self.name = Some(text.to_owned()),
            "otel.kind" => self.kind = kind(text),
            name => self.attribute(name, text.to_owned()),
        }
    }

    fn attribute(&mut self, name: &'static str, value: impl Into<Value>) {
        let value = value.into();
        if let Some(known) = self.attributes.iter_mut().find(|a| a.key.as_str() == name) {
            known.value = value;
        } else if self.attributes.len() < MAX_ATTRIBUTES {
            self.attributes.push(KeyValue::new(name, value));
        } else {
            self.dropped += 1;
        }
    }
}

fn span_id(text: &str) -> Option<SpanId> {
    SpanId::from_hex(text).ok().filter(|id| *id != SpanId::INVALID)
}

fn kind(text: &str) -> Option<SpanKind> {
    match text {
        "server" => Some(SpanKind::Server),
        "client" => Some(SpanKind::Client),
        "internal" => Some(SpanKind::Internal),
        "producer" => Some(SpanKind::Producer),
        "consumer" => Some(SpanKind::Consumer),
        _ => None,
    }
}

impl Visit for Seen {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.text(field, &format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.text(field, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.attribute(field.name(), value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.attribute(field.name(), value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.attribute(field.name(), i64::try_from(value).unwrap_or(i64::MAX));
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.attribute(field.name(), value);
    }
}
