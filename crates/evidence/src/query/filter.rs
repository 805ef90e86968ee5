//! Conditions on events: `outcome=unknown route=/v1/orders duration_ms>300`.

use super::facets::Facet;
use crate::fields::{self, FIELDS};

/// A query that cannot be answered as it is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum QueryError {
    /// No field has this name.
    #[error("no facet is called {name:?}; there are: {}", known())]
    UnknownFacet { name: String },
    /// A condition is not of the form `name=value`.
    #[error(
        "{0:?} is no condition; write name=value, name!=value, name>number or name<number, and quote a value with spaces: principal=\"a b\""
    )]
    Malformed(String),
    /// A comparison needs a number.
    #[error("{0:?} compares with a text; > and < need a number")]
    NotANumber(String),
    /// A time cannot be read.
    #[error("{name}={value:?} is no time; write RFC 3339, such as 2026-11-28T12:00:00Z")]
    Time { name: &'static str, value: String },
}

/// The names of all facets, for an error.
fn known() -> String {
    let names = FIELDS.iter().map(|field| {
        if field.short.is_empty() {
            field.name.to_owned()
        } else {
            format!("{} ({})", field.short, field.name)
        }
    });
    names.collect::<Vec<_>>().join(", ")
}

/// The full name of a facet.
pub(super) fn facet(name: &str) -> Result<&'static str, QueryError> {
    fields::find(name)
        .map(|field| field.name)
        .ok_or_else(|| QueryError::UnknownFacet { name: name.to_owned() })
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Operator {
    Is,
    IsNot,
    Above(f64),
    Below(f64),
}

/// One condition.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Filter {
    /// Full name of the field.
    pub(super) name: &'static str,
    operator: Operator,
    value: String,
}

impl Filter {
    pub(super) fn holds(&self, facet: &Facet<'_>) -> bool {
        match (self.operator, facet) {
            (Operator::Is, facet) => facet.is(&self.value),
            (Operator::IsNot, facet) => !facet.is(&self.value),
            (Operator::Above(limit), Facet::Number(value)) => *value > limit,
            (Operator::Below(limit), Facet::Number(value)) => *value < limit,
            (Operator::Above(_) | Operator::Below(_), _) => false,
        }
    }
}

/// Reads conditions that are separated by spaces. All of them must hold.
pub(super) fn parse(text: &str) -> Result<Vec<Filter>, QueryError> {
    words(text).into_iter().map(|word| condition(&word)).collect()
}

fn condition(word: &str) -> Result<Filter, QueryError> {
    let malformed = || QueryError::Malformed(word.to_owned());
    let at = word.find(['=', '>', '<', '!']).ok_or_else(malformed)?;
    let (name, rest) = word.split_at(at);
    let number = |text: &str| text.parse().map_err(|_| QueryError::NotANumber(word.to_owned()));
    let (operator, value) = if let Some(value) = rest.strip_prefix("!=") {
        (Operator::IsNot, value)
    } else if let Some(value) = rest.strip_prefix('=') {
        (Operator::Is, value)
    } else if let Some(value) = rest.strip_prefix('>') {
        (Operator::Above(number(value)?), value)
    } else if let Some(value) = rest.strip_prefix('<') {
        (Operator::Below(number(value)?), value)
    } else {
        return Err(malformed());
    };
    if name.is_empty() || value.is_empty() {
        return Err(malformed());
    }
    Ok(Filter { name: facet(name)?, operator, value: value.to_owned() })
}

/// Splits at spaces outside of double quotes, and removes the quotes.
fn words(text: &str) -> Vec<String> {
    let (mut words, mut word, mut is_quoted) = (Vec::new(), String::new(), false);
    for c in text.chars() {
        match c {
            '"' => is_quoted = !is_quoted,
            c if c.is_whitespace() && !is_quoted => words.push(std::mem::take(&mut word)),
            c => word.push(c),
        }
    }
    words.push(word);
    words.retain(|word| !word.is_empty());
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_have_short_or_full_names_quotes_and_comparisons() {
        let filters =
            parse("route=/v1/orders http.route!=/x  principal=\"a b\" duration_ms>300 status<500").unwrap();
        let names: Vec<_> = filters.iter().map(|filter| filter.name).collect();
        assert_eq!(
            names,
            ["http.route", "http.route", "principal", "duration_ms", "http.response.status_code"]
        );
        assert_eq!(filters[2].value, "a b");
        assert!(filters[3].holds(&Facet::Number(300.1)) && !filters[3].holds(&Facet::Number(300.0)));
        assert!(filters[4].holds(&Facet::Number(499.0)) && !filters[4].holds(&Facet::Absent));
        assert_eq!(parse(" ").unwrap(), []);
    }

    #[test]
    fn an_unknown_facet_lists_those_that_there_are() {
        let error = parse("colour=red").unwrap_err().to_string();
        assert!(
            error.contains("\"colour\"") && error.contains("route (http.route)") && error.contains("peer_ms"),
            "{error}"
        );
        for wrong in ["outcome", "=x", "outcome=", "outcome!x", "duration_ms>slow"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
