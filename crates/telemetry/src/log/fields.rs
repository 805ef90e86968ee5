//! Fields of events and spans, as they are recorded.

use std::error::Error;
use std::fmt::{self, Write};
use std::ops::Range;

use serde::Serialize;
use tracing::field::{Field, Visit};

/// A field's value.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(untagged)]
pub(super) enum Value<'a> {
    Text(&'a str),
    Bool(bool),
    Signed(i64),
    Unsigned(u64),
    Float(f64),
}

/// Hands on every field that it visits and that a line has.
pub(super) struct Visitor<F>(pub(super) F);

impl<F: FnMut(&'static str, Value<'_>)> Visit for Visitor<F> {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        // Asked first: to put a text together that nobody reads costs as much as a field.
        if is_told(field.name()) {
            (self.0)(field.name(), Value::Text(&format!("{value:?}")));
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        if is_told(field.name()) {
            (self.0)(field.name(), Value::Text(value));
        }
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        (self.0)(field.name(), Value::Bool(value));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        (self.0)(field.name(), Value::Signed(value));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        (self.0)(field.name(), Value::Unsigned(value));
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        (self.0)(field.name(), Value::Float(value));
    }

    /// With its causes: the outermost text alone is rarely the one that helps.
    fn record_error(&mut self, field: &Field, value: &(dyn Error + 'static)) {
        let mut text = value.to_string();
        let mut source = value.source();
        while let Some(cause) = source {
            // Writing to a String cannot fail.
            let _ = write!(text, ": {cause}");
            source = cause.source();
        }
        (self.0)(field.name(), Value::Text(&text));
    }
}

/// Texts of these names say to tracing's bridges to OpenTelemetry what a span is, and to a line nothing.
fn is_told(name: &str) -> bool {
    !name.starts_with("otel.")
}

/// What a span has recorded, for the lines inside it. First texts stand in one, since there is a span for each request.
#[derive(Debug)]
pub(super) struct Kept {
    fields: Vec<(&'static str, Held)>,
    text: String,
}

#[derive(Debug)]
enum Held {
    Text(Range<usize>),
    /// A text that took another's place: a loop that records for ever does not grow its span.
    Later(String),
    Other(Value<'static>),
}

impl Kept {
    /// With room for what the span of a request records.
    pub(super) fn new() -> Self {
        Self { fields: Vec::with_capacity(12), text: String::with_capacity(320) }
    }

    /// The latest word on a name counts.
    pub(super) fn keep(&mut self, name: &'static str, value: Value<'_>) {
        let place = self.fields.iter().position(|(known, _)| *known == name);
        let held = match value {
            Value::Text(text) if place.is_some() => Held::Later(text.to_owned()),
            Value::Text(text) => {
                let from = self.text.len();
                self.text.push_str(text);
                Held::Text(from..self.text.len())
            }
            Value::Bool(value) => Held::Other(Value::Bool(value)),
            Value::Signed(value) => Held::Other(Value::Signed(value)),
            Value::Unsigned(value) => Held::Other(Value::Unsigned(value)),
            Value::Float(value) => Held::Other(Value::Float(value)),
        };
        match place {
            Some(place) => self.fields[place].1 = held,
            None => self.fields.push((name, held)),
        }
    }

    pub(super) fn fields(&self) -> impl Iterator<Item = (&'static str, Value<'_>)> {
        self.fields.iter().map(|(name, held)| {
            let value = match held {
                Held::Text(range) => Value::Text(&self.text[range.clone()]),
                Held::Later(text) => Value::Text(text),
                Held::Other(value) => *value,
            };
            (*name, value)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_word_on_a_name_counts_and_keeps_its_place() {
        let mut kept = Kept::new();
        kept.keep("outcome", Value::Text("none"));
        kept.keep("status", Value::Unsigned(0));
        kept.keep("outcome", Value::Text("applied"));
        kept.keep("status", Value::Unsigned(201));
        let fields: Vec<_> = kept.fields().collect();
        assert_eq!(fields, [("outcome", Value::Text("applied")), ("status", Value::Unsigned(201))]);
        let before = kept.text.len();
        (0..100).for_each(|_| kept.keep("outcome", Value::Text("again")));
        assert_eq!((kept.text.len(), kept.fields.len()), (before, 2), "it does not grow");
    }
}
