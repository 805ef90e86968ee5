//! The values of some members of one event, read without building the event.

use std::borrow::Cow;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, de};

/// A member's value, as far as a query compares it.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) enum Facet<'a> {
    /// The event lacks the member, or it is an object.
    #[default]
    Absent,
    Text(Cow<'a, str>),
    Number(f64),
    Bool(bool),
    /// The texts of a list.
    List(Vec<Cow<'a, str>>),
}

impl Facet<'_> {
    /// True if the value, or a member of the list, is written as `text`.
    pub(super) fn is(&self, text: &str) -> bool {
        match self {
            Self::Absent => text == "none",
            Self::Text(value) => value == text,
            Self::Number(value) => text.parse() == Ok(*value),
            Self::Bool(value) => text == if *value { "true" } else { "false" },
            Self::List(values) => values.iter().any(|value| value == text),
        }
    }

    /// The value in a group's key.
    pub(super) fn key(&self) -> String {
        match self {
            Self::Absent => "none".to_owned(),
            Self::Text(value) => value.clone().into_owned(),
            Self::Number(value) => value.to_string(),
            Self::Bool(value) => value.to_string(),
            Self::List(values) => values.join(","),
        }
    }
}

/// The members `names` of one line, and its time and weight.
#[derive(Debug, Default)]
pub(super) struct Facets<'a> {
    pub(super) timestamp: Cow<'a, str>,
    pub(super) weight: u64,
    /// In the order of `names`.
    pub(super) values: Vec<Facet<'a>>,
}

/// Reads the facets of a line; `None` when the line is no event.
pub(super) fn read<'a>(line: &'a [u8], names: &[&'static str]) -> Option<Facets<'a>> {
    let mut deserializer = serde_json::Deserializer::from_slice(line);
    let facets = Wanted(names).deserialize(&mut deserializer).ok()?;
    deserializer.end().ok()?;
    (!facets.timestamp.is_empty()).then_some(facets)
}

struct Wanted<'n>(&'n [&'static str]);

impl<'de> DeserializeSeed<'de> for Wanted<'_> {
    type Value = Facets<'de>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Facets<'de>, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Wanted<'_> {
    type Value = Facets<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an event")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Facets<'de>, A::Error> {
        let mut facets = Facets { weight: 1, values: vec![Facet::Absent; self.0.len()], ..Facets::default() };
        while let Some(Text(name)) = map.next_key()? {
            let wanted = self.0.iter().position(|wanted| *wanted == name);
            match (&*name, wanted) {
                ("timestamp", None) => facets.timestamp = map.next_value::<Text<'de>>()?.0,
                ("timestamp", Some(at)) => {
                    facets.timestamp = map.next_value::<Text<'de>>()?.0;
                    facets.values[at] = Facet::Text(facets.timestamp.clone());
                }
                ("weight", _) => facets.weight = map.next_value()?,
                (_, Some(at)) => facets.values[at] = map.next_value()?,
                (_, None) => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(facets)
    }
}

/// A text that is borrowed unless it has escapes.
#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

impl<'de> Deserialize<'de> for Facet<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(FacetVisitor)
    }
}

struct FacetVisitor;

impl<'de> Visitor<'de> for FacetVisitor {
    type Value = Facet<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Facet<'de>, E> {
        Ok(Facet::Text(Cow::Borrowed(text)))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Facet<'de>, E> {
        Ok(Facet::Text(Cow::Owned(text.to_owned())))
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Facet<'de>, E> {
        Ok(Facet::Bool(value))
    }

    #[expect(clippy::cast_precision_loss, reason = "milliseconds and counts are far below 2^53")]
    fn visit_u64<E: Error>(self, value: u64) -> Result<Facet<'de>, E> {
        Ok(Facet::Number(value as f64))
    }

    #[expect(clippy::cast_precision_loss, reason = "milliseconds and counts are far below 2^53")]
    fn visit_i64<E: Error>(self, value: i64) -> Result<Facet<'de>, E> {
        Ok(Facet::Number(value as f64))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Facet<'de>, E> {
        Ok(Facet::Number(value))
    }

    fn visit_unit<E: Error>(self) -> Result<Facet<'de>, E> {
        Ok(Facet::Absent)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Facet<'de>, A::Error> {
        let mut texts = Vec::new();
        while let Some(value) = list.next_element::<Facet<'de>>()? {
            if let Facet::Text(text) = value {
                texts.push(text);
            }
        }
        Ok(Facet::List(texts))
    }

    fn visit_map<A: de::MapAccess<'de>>(self, mut map: A) -> Result<Facet<'de>, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Facet::Absent)
    }
}
