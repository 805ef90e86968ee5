//! From events, and the spans around them, to lines.

use std::io::IsTerminal;

use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::layer::{Context, Layer};
use tracing_subscriber::registry::LookupSpan;

use super::Destination;
use super::fields::Fields;
use super::format;
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

/// One line's content, before it is written in either form.
#[derive(Debug)]
pub(super) struct Line<'a> {
    pub(super) timestamp: String,
    pub(super) level: &'a str,
    pub(super) service: &'a str,
    pub(super) target: &'a str,
    pub(super) fields: Fields,
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for LogLayer {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        span.extensions_mut().insert(fields);
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        if let Some(fields) = span.extensions_mut().get_mut::<Fields>() {
            values.record(fields);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut fields = Fields::default();
        // The innermost word on a name counts, and the event's own most of all.
        for span in
            context.event_scope(event).into_iter().flat_map(tracing_subscriber::registry::Scope::from_root)
        {
            if let Some(known) = span.extensions().get::<Fields>() {
                for (name, value) in known.0.iter().filter(|(name, _)| !name.starts_with("otel.")) {
                    fields.put(name.clone(), value.clone());
                }
            }
        }
        event.record(&mut fields);
        let metadata = event.metadata();
        let line = Line {
            timestamp: now(),
            level: metadata.level().as_str(),
            service: self.service,
            target: metadata.target(),
            fields,
        };
        self.lines.write(if self.for_people { format::readable(line) } else { format::json(line) });
    }
}

/// RFC 3339, UTC, microseconds.
fn now() -> String {
    let mut text = String::with_capacity(32);
    // It fails only when the text cannot be written to, and a String can.
    let _ = SystemTime.format_time(&mut Writer::new(&mut text));
    text
}
