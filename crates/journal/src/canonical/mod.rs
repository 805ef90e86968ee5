//! Canonical JSON (RFC 8785), written in one go. Names are put in the order of their bytes as they are written, which is
//! the standard's for names with nothing to escape, up to U+FFFF; for others it is an order of its own, always the same.
//!
//! Rules, evidence and payloads declare their fields in the order that reads best, and clients send theirs as they like;
//! canonical JSON has them in the order of their names. The usual way, through a tree of sorted maps, took a node and a
//! string for every field, a third of all that the services allocated for an order. Here members are put in order where
//! they stand, once their object is complete.
//!
//! What every entry is full of, names and texts without anything to escape, is copied; serde_json writes the rest.

mod serializer;

use serde::ser::{Error as _, Serialize};
use serde_json::{Deserializer, Error};

/// Canonical JSON of what holds strings, integers, truth values, lists, options, and members with ASCII names that have
/// nothing to escape.
pub fn to_vec<T: Serialize + ?Sized>(value: &T) -> Vec<u8> {
    let mut writer = Writer::new();
    value
        .serialize(&mut writer)
        .expect("rules, evidence and payloads have names that are strings, and each of them once");
    writer.bytes
}

/// A JSON document in its canonical form; numbers with fractions are written as `serde_json` writes them.
///
/// # Errors
/// It is not one JSON document, or is nested deeper than 128, or an object says a member twice: parsers disagree on which
/// of the two counts, so it could be validated as one thing and stored or forwarded as another. The error says what is
/// wrong and where.
pub fn of_document(bytes: &[u8]) -> Result<String, Error> {
    let text = std::str::from_utf8(bytes).map_err(Error::custom)?;
    let mut writer = Writer::new();
    let mut document = Deserializer::from_str(text);
    serde_transcode::transcode(&mut document, &mut writer)?;
    document.end()?;
    Ok(String::from_utf8(writer.bytes).expect("JSON is text"))
}

#[derive(Debug)]
struct Writer {
    bytes: Vec<u8>,
    /// Of the objects that are not complete, outer ones first.
    members: Vec<Member>,
}

/// Where a member stands.
#[derive(Debug, Clone, Copy, Default)]
struct Member {
    begins: usize,
    name_ends: usize,
    ends: usize,
}

impl Member {
    /// Without its quotes.
    fn name(self, bytes: &[u8]) -> &[u8] {
        &bytes[self.begins + 1..self.name_ends - 1]
    }

    /// By their names, most of which differ in their first byte.
    fn is_before(self, other: Self, bytes: &[u8]) -> bool {
        match (self.name(bytes), other.name(bytes)) {
            ([a, ..], [b, ..]) if a != b => a < b,
            (a, b) => a < b,
        }
    }
}

impl Writer {
    /// With room for a common entry: to grow to that size step by step costs as much as to write it.
    fn new() -> Self {
        Self { bytes: Vec::with_capacity(2_048), members: Vec::with_capacity(32) }
    }

    fn scalar(&mut self, value: &(impl Serialize + ?Sized)) -> Result<(), Error> {
        serde_json::to_writer(&mut self.bytes, value)
    }

    fn quoted(&mut self, text: &str) {
        self.bytes.reserve(text.len() + 2);
        self.bytes.push(b'"');
        self.bytes.extend_from_slice(text.as_bytes());
        self.bytes.push(b'"');
    }

    fn text(&mut self, text: &str) -> Result<(), Error> {
        if is_plain(text) {
            self.quoted(text);
            return Ok(());
        }
        self.scalar(text)
    }

    /// Puts the members from the `first` on in the order of their names.
    fn order(&mut self, first: usize) -> Result<(), Error> {
        let Self { bytes, members } = self;
        let these = &mut members[first..];
        if !these.is_sorted_by(|a, b| a.is_before(*b, bytes)) {
            let begins = these[0].begins;
            these.sort_unstable_by(|a, b| a.name(bytes).cmp(b.name(bytes)));
            if let Some(twice) = these.windows(2).find(|two| two[0].name(bytes) == two[1].name(bytes)) {
                let name = twice[0].name(bytes);
                // A message is written again at every level on its way out.
                let name = String::from_utf8_lossy(&name[..name.len().min(100)]);
                return Err(Error::custom(format!("the member {name:?} is given twice")));
            }
            // Copied in order behind where they stand, and from there to where they stood.
            let ends = bytes.len();
            for member in these.iter() {
                if bytes.len() > ends {
                    bytes.push(b',');
                }
                bytes.extend_from_within(member.begins..member.ends);
            }
            bytes.copy_within(ends.., begins);
            bytes.truncate(ends);
        }
        members.truncate(first);
        Ok(())
    }
}

/// Whether JSON has the text as it is. Eight bytes are looked at at once, the last ones perhaps twice.
fn is_plain(text: &str) -> bool {
    const fn each(byte: u8) -> u64 {
        u64::from_ne_bytes([byte; 8])
    }
    // The highest bit of a byte is set where one below `limit` is subtracted from, and no other has it set already.
    let any_below = |word: u64, limit: u8| word.wrapping_sub(each(limit)) & !word & each(0x80);
    let any_escaped = |bytes: &[u8; 8]| {
        let word = u64::from_ne_bytes(*bytes);
        let any_is = |byte: u8| any_below(word ^ each(byte), 1);
        any_below(word, b' ') | any_is(b'"') | any_is(b'\\') != 0
    };
    let bytes = text.as_bytes();
    match bytes.last_chunk() {
        Some(last) => !any_escaped(last) && !bytes.as_chunks().0.iter().any(any_escaped),
        None => bytes.iter().all(|byte| *byte >= b' ' && !matches!(byte, b'"' | b'\\')),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Map, Value, json};

    use super::*;

    /// A value whose members come as they were given.
    #[derive(Debug, Clone)]
    enum Given {
        Plain(Value),
        List(Vec<Given>),
        Object(Vec<(String, Given)>),
    }

    impl Serialize for Given {
        fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            match self {
                Self::Plain(value) => value.serialize(serializer),
                Self::List(items) => serializer.collect_seq(items),
                Self::Object(members) => serializer.collect_map(members.iter().map(|(k, v)| (k, v))),
            }
        }
    }

    impl Given {
        fn sorted(&self) -> Value {
            match self {
                Self::Plain(value) => value.clone(),
                Self::List(items) => items.iter().map(Self::sorted).collect(),
                Self::Object(members) => {
                    Value::Object(members.iter().map(|(k, v)| (k.clone(), v.sorted())).collect::<Map<_, _>>())
                }
            }
        }
    }

    fn given() -> impl Strategy<Value = Given> {
        let plain = prop_oneof![
            // Beyond these canonical JSON rounds, as JavaScript does.
            (-(1_i64 << 53)..=1 << 53).prop_map(|n| json!(n)),
            any::<Option<bool>>().prop_map(|b| json!(b)),
            ".{0,12}".prop_map(|text| json!(text)),
        ];
        plain.prop_map(Given::Plain).prop_recursive(4, 48, 6, |inner| {
            let members = prop::collection::btree_map("[a-c_0-2]{1,4}", inner.clone(), 0..6)
                .prop_map(|members| members.into_iter().collect::<Vec<_>>())
                .prop_shuffle();
            prop_oneof![
                prop::collection::vec(inner, 0..4).prop_map(Given::List),
                members.prop_map(Given::Object)
            ]
        })
    }

    proptest! {
        #[test]
        fn members_stand_in_the_order_of_their_names(given in given()) {
            let canonical = serde_json_canonicalizer::to_vec(&given.sorted()).unwrap();
            prop_assert_eq!(to_vec(&given), canonical.as_slice());
            prop_assert_eq!(of_document(&serde_json::to_vec_pretty(&given).unwrap()).unwrap().into_bytes(), canonical);
        }
    }

    #[test]
    fn a_text_is_plain_when_json_has_it_as_it_is() {
        for byte in (0..=0x7f_u8).map(char::from).chain(['\u{80}', '\u{7ff}', '\u{1f600}']) {
            for (before, after) in (0..20).flat_map(|before| (0..20).map(move |after| (before, after))) {
                let text = format!("{}{byte}{}", "a".repeat(before), "~\u{e9}".repeat(after));
                let is_same = serde_json::to_string(&text).unwrap() == format!("\"{text}\"");
                assert_eq!(is_plain(&text), is_same, "{text:?}");
            }
        }
    }

    /// All that serde knows beside what a document holds.
    #[derive(Debug, serde::Serialize)]
    enum Variant {
        Unit,
        Newtype(Option<char>),
        Tuple(u8, ()),
        Struct { b: f64, a: (i8, bool) },
    }

    #[test]
    fn types_are_written_as_the_library_for_any_value_writes_them() {
        let values = (
            [Variant::Unit, Variant::Newtype(Some('"')), Variant::Newtype(None), Variant::Tuple(1, ())],
            [Variant::Struct { b: 0.5, a: (-1, true) }],
            std::collections::HashMap::from([("a\n\u{1}", "\\\u{7f}\u{e9}")]),
        );
        assert_eq!(to_vec(&values), serde_json_canonicalizer::to_vec(&values).unwrap());
        let numbers = std::collections::HashMap::from([(1, 2)]);
        let refused = numbers.serialize(&mut Writer::new()).unwrap_err().to_string();
        assert_eq!(refused, "the name of a member is not a string");
    }

    #[test]
    fn a_member_given_twice_is_refused_at_its_place() {
        for text in [r#"{"a": 1, "a": 1}"#, r#"{"b": [{"a": 1, "c": 0, "\u0061": 2}]}"#] {
            let error = of_document(text.as_bytes()).unwrap_err().to_string();
            assert!(error.contains("the member \"a\" is given twice at line 1 column"), "{error}");
        }
        assert_eq!(
            of_document(br#"{"ab": 1, "a!": 2, "a": {"a": 1}}"#).unwrap(),
            r#"{"a":{"a":1},"a!":2,"ab":1}"#
        );
    }

    #[test]
    fn what_is_not_one_document_is_refused() {
        let deep = "[".repeat(100_000);
        for bad in ["", "{", "{} {}", "nul", "1e999", r#""\ud800""#, "{\"a\":}", "\u{feff}{}", &deep] {
            assert!(of_document(bad.as_bytes()).is_err(), "{}", &bad[..bad.len().min(20)]);
        }
        assert!(of_document(b"\"\xff\"").is_err());
        assert_eq!(
            of_document(b" [-1, 2.5, true, null, \"\\u00e9\"] ").unwrap(),
            "[-1,2.5,true,null,\"\u{e9}\"]"
        );
    }
}
