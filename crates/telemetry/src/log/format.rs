//! The two formats of a log line: JSON and readable text.
//!
//! A value may contain any bytes that a client sent. Every control character is escaped, those beyond ASCII too. So a
//! value can neither start a new line nor send a command to the terminal that shows the log.

use std::fmt::Write as _;
use std::io;

use serde::Serialize;
use serde::de::IgnoredAny;
use serde_json::Serializer;
use serde_json::ser::{CompactFormatter, Formatter};

use super::fields::Value;
use crate::TelemetryConfig;

/// Names of the fields that every line begins with. An event's field of the same name is renamed to `field.<name>`.
const HEAD_NAMES: [&str; 8] = [
    "timestamp",
    "level",
    "target",
    "service.name",
    "service.version",
    "service.instance.id",
    "deployment.environment.name",
    "vcs.ref.head.revision",
];
/// Fields of the canonical line whose texts are JSON and are written as such.
const NESTED: [&str; 2] = ["decisions", "fields"];

/// Values of the fields that every line begins with.
#[derive(Debug, Clone, Copy)]
pub(super) struct Head<'a> {
    pub(super) timestamp: &'a str,
    pub(super) level: &'a str,
    pub(super) target: &'a str,
    pub(super) origin: &'a Origin,
}

/// The service and the process that write the lines, as members of a JSON object. They are made once, because every line
/// has them.
#[derive(Debug)]
pub(super) struct Origin(Vec<u8>);

impl Origin {
    pub(super) fn new(config: &TelemetryConfig) -> Self {
        let values =
            [config.service_name, config.version, &config.instance_id, &config.environment, config.revision];
        let mut members = Vec::new();
        for (name, value) in HEAD_NAMES[3..].iter().zip(values) {
            member(&mut members, name, Value::Text(value));
        }
        // The members follow others.
        members[0] = b',';
        Self(members)
    }
}

/// A log line under construction.
#[derive(Debug)]
pub(super) struct Line<'n> {
    /// Names of the fields added so far.
    names: Vec<&'n str>,
    form: Form,
}

#[derive(Debug)]
enum Form {
    Json {
        line: Vec<u8>,
        is_canonical: bool,
    },
    /// The three parts of a readable line. The message may be recorded after other fields but is printed before them.
    Readable {
        head: String,
        message: String,
        fields: String,
    },
}

impl<'n> Line<'n> {
    /// Begins a line of JSON.
    pub(super) fn json(head: Head<'_>) -> Self {
        let mut line = Vec::new();
        for (name, value) in HEAD_NAMES.into_iter().zip([head.timestamp, head.level, head.target]) {
            member(&mut line, name, Value::Text(value));
        }
        line.extend_from_slice(&head.origin.0);
        let is_canonical = head.target == "mainstay::canonical";
        Self { names: Vec::new(), form: Form::Json { line, is_canonical } }
    }

    /// Begins a readable line, such as `12:00:01.123456 WARN  order::app the message  key=value`. The level is coloured
    /// unless `NO_COLOR` is set.
    pub(super) fn readable(head: Head<'_>) -> Self {
        let colour = match head.level {
            _ if std::env::var_os("NO_COLOR").is_some() => "",
            "ERROR" => "\x1b[31m",
            "WARN" => "\x1b[33m",
            "INFO" => "\x1b[32m",
            _ => "\x1b[2m",
        };
        let plain = if colour.is_empty() { "" } else { "\x1b[0m" };
        let time = head.timestamp.split_once('T').map_or(head.timestamp, |(_, time)| time);
        let (level, target) = (head.level, head.target);
        let head = format!("{} {colour}{level:5}{plain} {target} ", time.trim_end_matches('Z'));
        let form = Form::Readable { head, message: String::new(), fields: String::new() };
        Self { names: Vec::new(), form }
    }

    /// Adds a field, unless the line already has a field of that name.
    ///
    /// A line has about twenty fields, and for so few a list is faster to search than a map.
    pub(super) fn add_field(&mut self, name: &'n str, value: Value<'_>) {
        if self.names.contains(&name) {
            return;
        }
        self.names.push(name);
        match &mut self.form {
            Form::Json { line, is_canonical } => match value {
                Value::Text(text) if *is_canonical && NESTED.contains(&name) && is_json(text) => {
                    key(line, name);
                    let written = Escaping.write_raw_fragment(line, text);
                    written.expect("writing to a vector cannot fail");
                }
                value if HEAD_NAMES.contains(&name) => member(line, &format!("field.{name}"), value),
                value => member(line, name, value),
            },
            Form::Readable { message, .. } if name == "message" => {
                if let Value::Text(text) = value {
                    escape(message, text);
                }
            }
            Form::Readable { fields, .. } => {
                // Writing to a String cannot fail.
                let _ = write!(fields, "  {name}=");
                let _ = match value {
                    Value::Text(text) => {
                        escape(fields, text);
                        Ok(())
                    }
                    Value::Bool(value) => write!(fields, "{value}"),
                    Value::Signed(value) => write!(fields, "{value}"),
                    Value::Unsigned(value) => write!(fields, "{value}"),
                    Value::Float(value) => write!(fields, "{value}"),
                };
            }
        }
    }

    /// The finished line with its line break.
    pub(super) fn finish(self) -> Vec<u8> {
        match self.form {
            Form::Json { mut line, .. } => {
                line.extend_from_slice(b"}\n");
                line
            }
            Form::Readable { head, message, fields } => format!("{head}{message}{fields}\n").into_bytes(),
        }
    }
}

/// True if the text is valid JSON. It is only checked, not parsed into values.
fn is_json(text: &str) -> bool {
    serde_json::from_str::<IgnoredAny>(text).is_ok()
}

fn member(line: &mut Vec<u8>, name: &str, value: Value<'_>) {
    key(line, name);
    json(line, value);
}

fn key(line: &mut Vec<u8>, name: &str) {
    line.push(if line.is_empty() { b'{' } else { b',' });
    json(line, Value::Text(name));
    line.push(b':');
}

fn json(line: &mut Vec<u8>, value: Value<'_>) {
    let written = value.serialize(&mut Serializer::with_formatter(line, Escaping));
    written.expect("text, numbers and booleans have a JSON form, and writing to a vector cannot fail");
}

/// True for control characters, and for U+2028 and U+2029, which some programs treat as line breaks.
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

/// JSON formatter that escapes the control characters from 0x7f on. serde_json itself escapes those below 0x20.
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

    /// Writes a text that is JSON already. In JSON, a control character of the escaped kinds can only stand inside a
    /// string.
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
    use std::sync::LazyLock;

    use serde_json::{Value as Json, json};

    use super::*;

    const HOSTILE: &str = "a\nb\r\u{1b}[31m\u{7f}\u{85}\u{9b}\u{2028}\u{2029}\"\\\0 é";

    static ORIGIN: LazyLock<Origin> =
        LazyLock::new(|| Origin::new(&TelemetryConfig::new("order", "1.2.3", "abcdef")));

    fn head(target: &str) -> Head<'_> {
        Head { timestamp: "2026-11-21T12:00:01.123456Z", level: "WARN", target, origin: &ORIGIN }
    }

    fn written<'n>(mut line: Line<'n>, fields: &[(&'n str, Value<'_>)]) -> String {
        for (name, value) in fields {
            line.add_field(name, *value);
        }
        String::from_utf8(line.finish()).unwrap()
    }

    fn parsed(target: &str, fields: &[(&str, Value<'_>)]) -> Json {
        serde_json::from_str(&written(Line::json(head(target)), fields)).unwrap()
    }

    #[test]
    fn a_line_is_one_json_object_even_if_values_hold_control_characters() {
        let fields =
            [("message", Value::Text(HOSTILE)), (HOSTILE, Value::Text(HOSTILE)), ("n", Value::Float(1.5))];
        let text = written(Line::json(head("t")), &fields);
        let body = text.strip_suffix('\n').unwrap();
        assert!(!body.chars().any(is_control), "{body:?}");
        let parsed: Json = serde_json::from_str(body).unwrap();
        assert_eq!(parsed["message"], HOSTILE);
        assert_eq!(parsed[HOSTILE], HOSTILE);
        assert_eq!(parsed["n"], 1.5);
        assert_eq!(parsed["service.name"], "order");
        assert_eq!(parsed["level"], "WARN");
    }

    #[test]
    fn a_character_that_needs_escaping_is_found_at_every_position() {
        for c in ('\0'..='\u{ff}').chain(['\u{2028}']) {
            for (before, after) in (0..=17).flat_map(|before| (0..=9).map(move |after| (before, after))) {
                let value = format!("{}{c}{}", "~".repeat(before), " ".repeat(after));
                let mut line = Vec::new();
                json(&mut line, Value::Text(&value));
                let line = String::from_utf8(line).unwrap();
                assert!(!line.chars().any(is_control), "{line:?}");
                assert_eq!(serde_json::from_str::<String>(&line).unwrap(), value);
            }
        }
    }

    #[test]
    fn the_first_value_of_a_name_is_written() {
        let fields = [("outcome", Value::Text("applied")), ("outcome", Value::Text("outer value"))];
        let text = written(Line::json(head("t")), &fields);
        assert!(text.contains("\"outcome\":\"applied\"") && !text.contains("outer"), "{text}");
    }

    #[test]
    fn a_field_cannot_replace_a_head_field_of_the_same_name() {
        let parsed = parsed("t", &[("level", Value::Text("INFO")), ("service.name", Value::Text("other"))]);
        assert_eq!((&parsed["level"], &parsed["field.level"]), (&json!("WARN"), &json!("INFO")));
        assert_eq!(parsed["service.name"], "order");
    }

    #[test]
    fn decisions_of_the_canonical_line_are_json_and_not_text() {
        let fields =
            [("decisions", Value::Text("[{\"layer\":\"retry\"}]")), ("fields", Value::Text("{\"lines\":3}"))];
        let canonical = parsed("mainstay::canonical", &fields);
        assert_eq!(canonical["decisions"][0]["layer"], "retry");
        assert_eq!(canonical["fields"]["lines"], 3);
        assert!(parsed("elsewhere", &fields)["decisions"].is_string());
        let broken = parsed("mainstay::canonical", &[("decisions", Value::Text("[{"))]);
        assert_eq!(broken["decisions"], "[{", "invalid JSON must stay text");
        let nasty = serde_json::to_string(HOSTILE).unwrap();
        let text =
            written(Line::json(head("mainstay::canonical")), &[("fields", Value::Text(nasty.as_str()))]);
        assert!(!text.trim_end().chars().any(is_control));
        assert_eq!(serde_json::from_str::<Json>(&text).unwrap()["fields"], HOSTILE);
    }

    #[test]
    fn a_readable_line_escapes_line_breaks_and_terminal_commands() {
        let fields =
            [("who", Value::Text(HOSTILE)), ("message", Value::Text(HOSTILE)), ("n", Value::Unsigned(7))];
        let text = written(Line::readable(head("t")), &fields);
        let body = text.strip_suffix('\n').unwrap();
        assert!(body.starts_with("12:00:01.123456 "), "{body}");
        assert!(body.ends_with("  n=7"), "{body}");
        let own = body.replace("\u{1b}[33m", "").replace("\u{1b}[0m", "");
        assert!(!own.chars().any(is_control), "{own:?}");
    }
}
