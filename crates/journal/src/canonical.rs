//! Canonical JSON (RFC 8785), written in one go.
//!
//! Rules, evidence and payloads declare their fields in the order that reads best; canonical JSON has them in the order
//! of their names. The usual way, through a tree of sorted maps, took a node and a string for every field, a third of
//! all that the services allocated for an order. Here members are put in order where they stand, once their object is
//! complete.

use std::cell::RefCell;
use std::io;

use serde::Serialize;
use serde_json::Serializer;
use serde_json::ser::Formatter;

/// Canonical JSON of what holds strings, integers, truth values, lists, options, and members with ASCII names.
pub(crate) fn to_string<T: Serialize + ?Sized>(value: &T) -> String {
    // Room for a common entry: to grow a buffer to that size step by step costs as much as to fill it.
    let bytes = RefCell::new(Vec::with_capacity(2_048));
    let sorting = Sorting { bytes: &bytes, members: Vec::with_capacity(16), firsts: Vec::with_capacity(4) };
    let written = value.serialize(&mut Serializer::with_formatter(Shared(&bytes), sorting));
    written.expect("rules, evidence and payloads hold no map with keys that are not strings");
    String::from_utf8(bytes.into_inner()).expect("JSON is text")
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
    /// From where to where the members stand of the objects that are not complete, outer ones first.
    members: Vec<(usize, usize)>,
    /// Of each of these objects, which of `members` is its first.
    firsts: Vec<usize>,
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
        let here = self.here();
        self.members.push((here, here));
        Ok(())
    }

    fn end_object_value<W: io::Write + ?Sized>(&mut self, _writer: &mut W) -> io::Result<()> {
        let here = self.here();
        if let Some((_, end)) = self.members.last_mut() {
            *end = here;
        }
        Ok(())
    }

    fn end_object<W: io::Write + ?Sized>(&mut self, writer: &mut W) -> io::Result<()> {
        let first = self.firsts.pop().unwrap_or_default();
        let members = &mut self.members[first..];
        {
            let mut bytes = self.bytes.borrow_mut();
            // With its closing quote a name is less than any longer one that begins with it.
            let text = |member: &(usize, usize)| &bytes[member.0..member.1];
            if !members.is_sorted_by(|a, b| text(a) < text(b)) {
                let begins = members[0].0;
                members.sort_unstable_by(|a, b| text(a).cmp(text(b)));
                let sorted = members.iter().map(text).collect::<Vec<_>>().join(&b","[..]);
                bytes.truncate(begins);
                bytes.extend_from_slice(&sorted);
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
            prop_assert_eq!(to_string(&given), canonical);
        }
    }
}
