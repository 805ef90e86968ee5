//! From events, and the spans around them, to lines.

use std::io::IsTerminal;

use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::layer::{Context, Layer};
use tracing_subscriber::registry::LookupSpan;

use super::Destination;
use super::fields::{Kept, Value, Visitor};
use super::format::{Head, Line};
use super::lines::Lines;

#[derive(Debug)]
pub(crate) struct LogLayer {
    service: &'static str,
    lines: Lines,
    for_people: bool,
}

impl LogLayer {
    pub(crate) fn new(service: &'static str, lines: Lines, destination: Destination) -> Self {
        let for_people = match destination {
            Destination::Stdout => std::io::stdout().is_terminal(),
            Destination::Stderr => std::io::stderr().is_terminal(),
        };
        Self { service, lines, for_people }
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for LogLayer {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        let mut kept = Kept::new();
        attributes.record(&mut Visitor(|name, value: Value<'_>| kept.keep(name, value)));
        span.extensions_mut().insert(kept);
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        if let Some(kept) = span.extensions_mut().get_mut::<Kept>() {
            values.record(&mut Visitor(|name, value: Value<'_>| kept.keep(name, value)));
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let metadata = event.metadata();
        let timestamp = now();
        let head = Head {
            timestamp: &timestamp,
            level: metadata.level().as_str(),
            service: self.service,
            target: metadata.target(),
        };
        let mut line = if self.for_people { Line::readable(head) } else { Line::json(head) };
        // The first word on a name counts: the event's own, then the innermost span's.
        event.record(&mut Visitor(|name, value: Value<'_>| line.say(name, value)));
        for span in context.event_scope(event).into_iter().flatten() {
            if let Some(kept) = span.extensions().get::<Kept>() {
                for (name, value) in kept.fields() {
                    line.say(name, value);
                }
            }
        }
        self.lines.write(line.end());
    }
}

/// RFC 3339, UTC, microseconds.
fn now() -> String {
    let mut text = String::with_capacity(32);
    // It fails only when the text cannot be written to, and a String can.
    let _ = SystemTime.format_time(&mut Writer::new(&mut text));
    text
}
