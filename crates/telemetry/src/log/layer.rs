//! From events, and the spans around them, to lines.

use std::cell::Cell;
use std::fmt::Write as _;
use std::io::IsTerminal;

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Subscriber};
use tracing_subscriber::layer::{Context, Layer};
use tracing_subscriber::registry::LookupSpan;

use super::Destination;
use super::fields::{Kept, Value, Visitor};
use super::format::{Head, Line};
use super::lines::Lines;

/// What most lines fit into.
const ROOM: usize = 4_096;

thread_local! {
    /// What the thread's last line was written in, for its next.
    static SPARE: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

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
        let timestamp = timestamp(OffsetDateTime::now_utc());
        let head = Head {
            timestamp: &timestamp,
            level: metadata.level().as_str(),
            service: self.service,
            target: metadata.target(),
        };
        let spare = SPARE.try_with(Cell::take).unwrap_or_default();
        let mut line = if self.for_people { Line::readable(head) } else { Line::json(spare, head) };
        // The first word on a name counts: the event's own, then the innermost span's.
        event.record(&mut Visitor(|name, value: Value<'_>| line.say(name, value)));
        for span in context.event_scope(event).into_iter().flatten() {
            if let Some(kept) = span.extensions().get::<Kept>() {
                for (name, value) in kept.fields() {
                    line.say(name, value);
                }
            }
        }
        let mut line = line.end();
        self.lines.write(&line);
        line.clear();
        line.shrink_to(ROOM);
        // Where a thread is ending there is none to come.
        let _ = SPARE.try_with(|spare| spare.set(line));
    }
}

/// RFC 3339 with six digits for the microseconds, so that lines are as wide as each other.
fn timestamp(now: OffsetDateTime) -> String {
    let seconds = now.replace_nanosecond(0).unwrap_or(now).format(&Rfc3339);
    // It fails for years that no clock shows.
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
