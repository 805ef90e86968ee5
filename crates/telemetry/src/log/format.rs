//! The two forms of a line.
//!
//! A value may hold anything that a client sent. In JSON every control character is escaped, those beyond ASCII
//! too, so that a line stays one line and a terminal that shows it obeys nothing in it.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::io;

use serde::{Serialize, Serializer as _};
use serde_json::ser::{CompactFormatter, Formatter};
use serde_json::value::RawValue;
use serde_json::{Serializer, Value};

use super::layer::Line;

/// What a line always has; a field of the same name gives way.
const OWN: [&str; 4] = ["timestamp", "level", "service.name", "target"];
/// Fields of the canonical line that hold JSON already.
const NESTED: [&str; 2] = ["decisions", "fields"];

pub(super) fn json(line: Line<'_>) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(2_048);
    let written = Serializer::with_formatter(&mut bytes, Escaping).collect_map(entries(line));
    written.expect("a JSON object can be written to memory");
    bytes.push(b'\n');
    bytes
}

/// A field's value as it goes into the line.
#[derive(Serialize)]
#[serde(untagged)]
enum Shown {
    Plain(Value),
    /// JSON already: neither read nor written again.
    Nested(Box<RawValue>),
}

fn entries(line: Line<'_>) -> impl Iterator<Item = (Cow<'static, str>, Shown)> {
    let own = [&line.timestamp, line.level, line.service, line.target].map(|text| Shown::Plain(text.into()));
    let own = OWN.into_iter().map(Cow::Borrowed).zip(own);
    let is_canonical = line.target == "mainstay::canonical";
    let others = line.fields.0.into_iter().map(move |(name, value)| {
        let name = if OWN.contains(&&*name) { format!("field.{name}").into() } else { name };
        let value = match value {
            Value::String(text) if is_canonical && NESTED.contains(&&*name) => {
                RawValue::from_string(text.clone()).map_or(Shown::Plain(text.into()), Shown::Nested)
            }
            value => Shown::Plain(value),
        };
        (name, value)
    });
    own.chain(others)
}

/// `12:00:01.123456 WARN  order::app the message  key=value`, with colours unless `NO_COLOR` is set.
pub(super) fn readable(mut line: Line<'_>) -> Vec<u8> {
    let colour = match line.level {
        _ if std::env::var_os("NO_COLOR").is_some() => "",
        "ERROR" => "\x1b[31m",
        "WARN" => "\x1b[33m",
        "INFO" => "\x1b[32m",
        _ => "\x1b[2m",
    };
    let plain = if colour.is_empty() { "" } else { "\x1b[0m" };
    let time = line.timestamp.split_once('T').map_or(line.timestamp.as_str(), |(_, time)| time);
    let message = line.fields.take("message");
    let mut text = String::with_capacity(256);
    // Writing to a String cannot fail.
    let _ = write!(text, "{} {colour}{:5}{plain} {} ", time.trim_end_matches('Z'), line.level, line.target);
    escape(&mut text, message.as_ref().and_then(Value::as_str).unwrap_or_default());
    for (name, value) in &line.fields.0 {
        let _ = write!(text, "  {name}=");
        match value {
            Value::String(value) => escape(&mut text, value),
            value => escape(&mut text, &value.to_string()),
        }
    }
    text.push('\n');
    text.into_bytes()
}

/// Control characters, and the two that some readers take for line breaks.
fn is_control(c: char) -> bool {
    c.is_control() || matches!(c, '\u{2028}' | '\u{2029}')
}

fn escape(text: &mut String, value: &str) {
    for c in value.chars() {
        if is_control(c) {
            text.extend(c.escape_default());
        } else {
            text.push(c);
        }
    }
}

/// serde_json escapes control characters below 0x20; this does the rest.
struct Escaping;

impl Formatter for Escaping {
    fn write_string_fragment<W: io::Write + ?Sized>(
        &mut self,
        writer: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        let mut rest = fragment;
        while let Some((at, c)) = rest.char_indices().find(|(_, c)| is_control(*c)) {
            CompactFormatter.write_string_fragment(writer, &rest[..at])?;
            write!(writer, "\\u{:04x}", u32::from(c))?;
            rest = &rest[at + c.len_utf8()..];
        }
        CompactFormatter.write_string_fragment(writer, rest)
    }

    /// In JSON that is there already, control characters can only stand inside strings.
    fn write_raw_fragment<W: io::Write + ?Sized>(
        &mut self,
        writer: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        self.write_string_fragment(writer, fragment)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::fields::Fields;
    use super::*;

    const NASTY: &str = "a\nb\r\u{1b}[31m\u{7f}\u{85}\u{9b}\u{2028}\u{2029}\"\\\0 é";

    fn line(target: &'static str, fields: Value) -> Line<'static> {
        let Value::Object(fields) = fields else { panic!("fields are an object") };
        let fields = Fields(fields.into_iter().map(|(name, value)| (name.into(), value)).collect());
        let timestamp = "2026-11-21T12:00:01.123456Z".to_owned();
        Line { timestamp, level: "WARN", service: "order", target, fields }
    }

    #[test]
    fn a_line_is_one_json_object_whatever_a_value_holds() {
        let bytes = json(line("t", json!({"message": NASTY, NASTY: NASTY, "n": 1.5})));
        let text = String::from_utf8(bytes).unwrap();
        let body = text.strip_suffix('\n').unwrap();
        assert!(!body.chars().any(is_control), "{body:?}");
        let parsed: Value = serde_json::from_str(body).unwrap();
        assert_eq!(parsed["message"], NASTY);
        assert_eq!(parsed[NASTY], NASTY);
        assert_eq!(parsed["service.name"], "order");
        assert_eq!(parsed["level"], "WARN");
    }

    #[test]
    fn no_field_can_pose_as_the_lines_own() {
        let bytes = json(line("t", json!({"level": "INFO", "service.name": "other"})));
        let parsed: Value = serde_json::from_slice(&bytes).unwrap();
        assert_eq!((&parsed["level"], &parsed["field.level"]), (&json!("WARN"), &json!("INFO")));
        assert_eq!(parsed["service.name"], "order");
    }

    #[test]
    fn the_canonical_lines_decisions_are_json_and_not_text() {
        let fields = || json!({"decisions": "[{\"layer\":\"retry\"}]", "fields": "{\"lines\":3}"});
        let parsed: Value = serde_json::from_slice(&json(line("mainstay::canonical", fields()))).unwrap();
        assert_eq!(parsed["decisions"][0]["layer"], "retry");
        assert_eq!(parsed["fields"]["lines"], 3);
        let other: Value = serde_json::from_slice(&json(line("elsewhere", fields()))).unwrap();
        assert!(other["decisions"].is_string());
        let broken = line("mainstay::canonical", json!({"decisions": "[{"}));
        let broken: Value = serde_json::from_slice(&json(broken)).unwrap();
        assert_eq!(broken["decisions"], "[{", "what is not JSON stays text");
        let nasty = serde_json::to_string(NASTY).unwrap();
        let bytes = json(line("mainstay::canonical", json!({"fields": nasty})));
        assert!(!String::from_utf8_lossy(&bytes).trim_end().chars().any(is_control));
        assert_eq!(serde_json::from_slice::<Value>(&bytes).unwrap()["fields"], NASTY);
    }

    #[test]
    fn a_readable_line_stays_one_line_and_obeys_nothing() {
        let text = String::from_utf8(readable(line("t", json!({"message": NASTY, "who": NASTY})))).unwrap();
        let body = text.strip_suffix('\n').unwrap();
        assert!(body.starts_with("12:00:01.123456 "), "{body}");
        let own = body.replace("\u{1b}[33m", "").replace("\u{1b}[0m", "");
        assert!(!own.chars().any(is_control), "{own:?}");
    }
}
