//! Subscriber layer that turns an event and its enclosing spans into a log line.

use std::fmt::Write as _;
use std::io::{IsTerminal, Write as _};

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Subscriber};
use tracing_appender::non_blocking::NonBlocking;
use tracing_subscriber::layer::{Context, Layer};
use tracing_subscriber::registry::LookupSpan;

use super::Destination;
use super::fields::{SpanFields, Value, Visitor};
use super::format::{Head, Line, Origin};
use super::sample::{Kept, Sample};
use crate::TelemetryConfig;

#[derive(Debug)]
pub(crate) struct LogLayer {
    origin: Origin,
    lines: NonBlocking,
    is_terminal: bool,
    sample: Sample,
}

impl LogLayer {
    pub(crate) fn new(config: &TelemetryConfig, lines: NonBlocking) -> Self {
        let is_terminal = match config.destination {
            Destination::Stdout => std::io::stdout().is_terminal(),
            Destination::Stderr => std::io::stderr().is_terminal(),
        };
        Self { origin: Origin::new(config), lines, is_terminal, sample: Sample::one_in(config.good_reads) }
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for LogLayer {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        let mut recorded = SpanFields::default();
        attributes.record(&mut Visitor(|name, value: Value<'_>| recorded.set(name, value)));
        span.extensions_mut().insert(recorded);
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        if let Some(recorded) = span.extensions_mut().get_mut::<SpanFields>() {
            values.record(&mut Visitor(|name, value: Value<'_>| recorded.set(name, value)));
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let kept = self.sample.decide(event);
        if kept == Kept::No {
            return;
        }
        let metadata = event.metadata();
        let timestamp = timestamp(OffsetDateTime::now_utc());
        let head = Head {
            timestamp: &timestamp,
            level: metadata.level().as_str(),
            target: metadata.target(),
            origin: &self.origin,
        };
        let mut line = if self.is_terminal { Line::readable(head) } else { Line::json(head) };
        // The first value of a name is written: the event's own fields first, then those of the innermost span.
        event.record(&mut Visitor(|name, value: Value<'_>| line.add_field(name, value)));
        if let Kept::For(lines) = kept {
            line.add_field("log_weight", Value::Unsigned(lines.into()));
        }
        for span in context.event_scope(event).into_iter().flatten() {
            if let Some(recorded) = span.extensions().get::<SpanFields>() {
                for (name, value) in recorded.fields() {
                    line.add_field(name, value);
                }
            }
        }
        // The writer never fails: a full queue drops the line and counts it.
        let _ = self.lines.clone().write_all(&line.finish());
    }
}

/// RFC 3339 time with six digits of microseconds, so that all timestamps have the same width.
fn timestamp(now: OffsetDateTime) -> String {
    let seconds = now.replace_nanosecond(0).unwrap_or(now).format(&Rfc3339);
    // Formatting fails only for years before 0 or after 9999.
    let mut text = seconds.unwrap_or_default();
    text.truncate("2026-11-28T12:00:01".len());
    // Writing to a String cannot fail.
    let _ = write!(text, ".{:06}Z", now.microsecond());
    text
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    #[test]
    fn a_timestamp_has_six_digits_for_the_microseconds() {
        assert_eq!(timestamp(datetime!(2026-11-28 12:00:01.123_456_789 UTC)), "2026-11-28T12:00:01.123456Z");
        assert_eq!(timestamp(datetime!(2026-11-28 12:00:01 UTC)), "2026-11-28T12:00:01.000000Z");
    }
}
