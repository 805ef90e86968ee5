//! Recorded fields of events and spans.

use std::error::Error;
use std::fmt::{self, Write};

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

/// Field visitor that passes each field to a closure, except the fields that no log line shows.
pub(super) struct Visitor<F>(pub(super) F);

impl<F: FnMut(&'static str, Value<'_>)> Visit for Visitor<F> {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        // Check first: formatting a text costs as much as writing a field.
        if is_shown(field.name()) {
            (self.0)(field.name(), Value::Text(&format!("{value:?}")));
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        if is_shown(field.name()) {
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

    /// Records an error with its causes, because the cause usually explains more than the outermost error.
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

/// True if log lines show the field. Fields named `otel.*` are instructions to the span export and are not shown.
fn is_shown(name: &str) -> bool {
    !name.starts_with("otel.")
}

/// Recorded fields of a span, for the log lines inside it.
#[derive(Debug, Default)]
pub(super) struct SpanFields(Vec<(&'static str, Stored)>);

#[derive(Debug)]
enum Stored {
    Text(String),
    Other(Value<'static>),
}

impl SpanFields {
    /// Stores a field. A later value of the same name replaces the earlier one and keeps its position.
    pub(super) fn set(&mut self, name: &'static str, value: Value<'_>) {
        let stored = match value {
            Value::Text(text) => Stored::Text(text.to_owned()),
            Value::Bool(value) => Stored::Other(Value::Bool(value)),
            Value::Signed(value) => Stored::Other(Value::Signed(value)),
            Value::Unsigned(value) => Stored::Other(Value::Unsigned(value)),
            Value::Float(value) => Stored::Other(Value::Float(value)),
        };
        match self.0.iter_mut().find(|(known, _)| *known == name) {
            Some(field) => field.1 = stored,
            None => self.0.push((name, stored)),
        }
    }

    pub(super) fn fields(&self) -> impl Iterator<Item = (&'static str, Value<'_>)> {
        self.0.iter().map(|(name, stored)| match stored {
            Stored::Text(text) => (*name, Value::Text(text)),
            Stored::Other(value) => (*name, *value),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_later_value_replaces_an_earlier_one_at_its_position() {
        let mut recorded = SpanFields::default();
        recorded.set("outcome", Value::Text("none"));
        recorded.set("status", Value::Unsigned(0));
        recorded.set("outcome", Value::Text("applied"));
        recorded.set("status", Value::Unsigned(201));
        let fields: Vec<_> = recorded.fields().collect();
        assert_eq!(fields, [("outcome", Value::Text("applied")), ("status", Value::Unsigned(201))]);
        (0..100).for_each(|_| recorded.set("outcome", Value::Text("again")));
        assert_eq!(recorded.0.len(), 2, "replacing a value must not grow the list");
    }
}
