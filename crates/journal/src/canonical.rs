//! Canonical JSON (RFC 8785), written in one go.
//!
//! Rules, evidence and payloads declare their fields in the order that reads best, and clients send theirs as they like;
//! canonical JSON has them in the order of their names. The usual way, through a tree of sorted maps, took a node and a
//! string for every field, a third of all that the services allocated for an order. Here members are put in order where
//! they stand, once their object is complete.

use std::cell::RefCell;
use std::io;

use serde::Serialize;
use serde_json::Serializer;
use serde_json::ser::Formatter;

/// Canonical JSON of what holds strings, integers, truth values, lists, options, and members with ASCII names.
pub fn to_string<T: Serialize + ?Sized>(value: &T) -> String {
    write(|serializer| value.serialize(serializer))
        .expect("rules, evidence and payloads have names that are strings, and each of them once")
}

/// A JSON document in its canonical form; numbers with fractions are written as `serde_json` writes them.
///
/// # Errors
/// It is not one JSON document, or is nested deeper than 128, or an object says a member twice: parsers disagree on which
/// of the two counts, so it could be validated as one thing and stored or forwarded as another. The error says what is
/// wrong and at which line and column.
pub fn of_document(bytes: &[u8]) -> Result<String, serde_json::Error> {
    write(|serializer| {
        let mut document = serde_json::Deserializer::from_slice(bytes);
        serde_transcode::transcode(&mut document, serializer)?;
        document.end()
    })
}

type Canonical<'s, 'b> = &'s mut Serializer<Shared<'b>, Sorting<'b>>;

fn write(
    value: impl FnOnce(Canonical<'_, '_>) -> Result<(), serde_json::Error>,
) -> Result<String, serde_json::Error> {
    // Room for a common entry: to grow a buffer to that size step by step costs as much as to fill it.
    let bytes = RefCell::new(Vec::with_capacity(2_048));
    let sorting = Sorting {
        bytes: &bytes,
        members: Vec::with_capacity(32),
        firsts: Vec::with_capacity(8),
        ordered: Vec::new(),
    };
    value(&mut Serializer::with_formatter(Shared(&bytes), sorting))?;
    Ok(String::from_utf8(bytes.into_inner()).expect("JSON is text"))
}

/// What has been written, which the formatter has to see as well.
struct Shared<'a>(&'a RefCell<Vec<u8>>);

impl io::Write for Shared<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.borrow_mut().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.borrow_mut().extend_from_slice(bytes);
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct Sorting<'a> {
    bytes: &'a RefCell<Vec<u8>>,
    /// Of the objects that are not complete, outer ones first.
    members: Vec<Member>,
    /// Of each of these objects, which of `members` is its first.
    firsts: Vec<usize>,
    /// Where members are copied to in order, and back from; kept for the next object.
    ordered: Vec<u8>,
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
}

impl Sorting<'_> {
    /// Where the next byte goes.
    fn here(&self) -> usize {
        self.bytes.borrow().len()
    }
}

impl Formatter for Sorting<'_> {
    fn begin_object<W: io::Write + ?Sized>(&mut self, writer: &mut W) -> io::Result<()> {
        self.firsts.push(self.members.len());
        writer.write_all(b"{")
    }

    fn begin_object_key<W: io::Write + ?Sized>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        if !first {
            writer.write_all(b",")?;
        }
        self.members.push(Member { begins: self.here(), ..Member::default() });
        Ok(())
    }

    fn end_object_key<W: io::Write + ?Sized>(&mut self, _writer: &mut W) -> io::Result<()> {
        let here = self.here();
        if let Some(member) = self.members.last_mut() {
            member.name_ends = here;
        }
        Ok(())
    }

    fn end_object_value<W: io::Write + ?Sized>(&mut self, _writer: &mut W) -> io::Result<()> {
        let here = self.here();
        if let Some(member) = self.members.last_mut() {
            member.ends = here;
        }
        Ok(())
    }

    fn end_object<W: io::Write + ?Sized>(&mut self, writer: &mut W) -> io::Result<()> {
        let first = self.firsts.pop().unwrap_or_default();
        let members = &mut self.members[first..];
        {
            let mut bytes = self.bytes.borrow_mut();
            if !members.is_sorted_by(|a, b| a.name(&bytes) < b.name(&bytes)) {
                let begins = members[0].begins;
                members.sort_unstable_by(|a, b| a.name(&bytes).cmp(b.name(&bytes)));
                if let Some(twice) = members.windows(2).find(|two| two[0].name(&bytes) == two[1].name(&bytes))
                {
                    let name = twice[0].name(&bytes);
                    // A message is written again at every level on its way out.
                    let name = String::from_utf8_lossy(&name[..name.len().min(100)]);
                    return Err(io::Error::other(format!("the member {name:?} is given twice")));
                }
                self.ordered.clear();
                for member in members.iter() {
                    if !self.ordered.is_empty() {
                        self.ordered.push(b',');
                    }
                    self.ordered.extend_from_slice(&bytes[member.begins..member.ends]);
                }
                bytes.truncate(begins);
                bytes.extend_from_slice(&self.ordered);
            }
        }
        self.members.truncate(first);
        writer.write_all(b"}")
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
            let canonical = serde_json_canonicalizer::to_string(&given.sorted()).unwrap();
            prop_assert_eq!(to_string(&given), &*canonical);
            prop_assert_eq!(of_document(&serde_json::to_vec_pretty(&given).unwrap()).unwrap(), canonical);
        }
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
