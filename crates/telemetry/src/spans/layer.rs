//! Subscriber layer that turns `tracing` spans into OpenTelemetry spans.

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

use super::QueueSlots;

/// Most attributes of one span. The limit keeps a span small when a loop records new names without end.
const MAX_ATTRIBUTES: usize = 64;

pub(crate) struct SpanLayer {
    processor: Arc<BatchSpanProcessor>,
    slots: QueueSlots,
    scope: InstrumentationScope,
}

impl SpanLayer {
    pub(super) fn new(processor: Arc<BatchSpanProcessor>, slots: QueueSlots) -> Self {
        Self { processor, slots, scope: InstrumentationScope::builder("mainstay").build() }
    }
}

/// A span that has started and not ended.
#[derive(Debug)]
struct OpenSpan {
    trace_id: TraceId,
    span_id: SpanId,
    parent: SpanId,
    parent_is_remote: bool,
    name: Cow<'static, str>,
    kind: SpanKind,
    started: SystemTime,
    attributes: Vec<KeyValue>,
    dropped: u32,
}

impl OpenSpan {
    /// The OpenTelemetry span for `metadata`, or `None` when the span belongs to no trace.
    fn new(
        metadata: &'static Metadata<'static>,
        parsed: ParsedFields,
        enclosing: Option<(TraceId, SpanId)>,
    ) -> Option<Self> {
        let random = RandomIdGenerator::default();
        let (trace_id, parent) = match (parsed.trace_id, enclosing) {
            (Some(own), enclosing) => {
                // A field names the parent when the caller is another process. Otherwise the parent is the
                // enclosing span.
                let local = enclosing.filter(|(trace_id, _)| *trace_id == own).map(|(_, span_id)| span_id);
                (own, parsed.parent.or(local))
            }
            (None, Some((trace_id, span_id))) => (trace_id, Some(span_id)),
            (None, None) => return None,
        };
        Some(Self {
            trace_id,
            span_id: parsed.span_id.unwrap_or_else(|| random.new_span_id()),
            parent: parent.unwrap_or(SpanId::INVALID),
            parent_is_remote: parsed.parent.is_some() && parsed.kind == Some(SpanKind::Server),
            name: parsed.name.map_or(Cow::Borrowed(metadata.name()), Cow::Owned),
            kind: parsed.kind.unwrap_or(SpanKind::Internal),
            started: opentelemetry::time::now(),
            attributes: parsed.attributes,
            dropped: parsed.dropped,
        })
    }

    /// The span's status by OpenTelemetry's semantic conventions: a server span failed if the status code is 5xx, a
    /// client span if it is 4xx or 5xx.
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
            start_time: self.started,
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
        let mut parsed = ParsedFields::default();
        attributes.record(&mut parsed);
        let enclosing = span
            .scope()
            .skip(1)
            .find_map(|outer| outer.extensions().get::<OpenSpan>().map(|open| (open.trace_id, open.span_id)));
        if let Some(open) = OpenSpan::new(attributes.metadata(), parsed, enclosing) {
            span.extensions_mut().insert(open);
        }
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        let mut extensions = span.extensions_mut();
        let Some(open) = extensions.get_mut::<OpenSpan>() else { return };
        let mut parsed =
            ParsedFields { attributes: std::mem::take(&mut open.attributes), ..ParsedFields::default() };
        values.record(&mut parsed);
        open.attributes = parsed.attributes;
        open.dropped += parsed.dropped;
        if let Some(name) = parsed.name {
            open.name = Cow::Owned(name);
        }
    }

    fn on_close(&self, id: Id, context: Context<'_, S>) {
        let Some(span) = context.span(&id) else { return };
        let open = span.extensions_mut().remove::<OpenSpan>();
        if let Some(open) = open
            && self.slots.take()
        {
            self.processor.on_end(open.close(self.scope.clone()));
        }
    }
}

/// Ids, kind, name and attributes read from a span's fields.
#[derive(Debug, Default)]
struct ParsedFields {
    trace_id: Option<TraceId>,
    span_id: Option<SpanId>,
    parent: Option<SpanId>,
    kind: Option<SpanKind>,
    name: Option<String>,
    attributes: Vec<KeyValue>,
    dropped: u32,
}

impl ParsedFields {
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

impl Visit for ParsedFields {
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
