//! What led to a request: the caller's journal entry and clock. Read leniently: whatever is malformed is absent,
//! since a request must not fail for a header that only explains it.

use std::str::FromStr;

use http::{HeaderMap, HeaderName};
use inventory_api::{X_CAUSATION_ID, X_HYBRID_CLOCK};
use journal::HybridTime;
use uuid::Uuid;

/// `X-Causation-Id` and `X-Hybrid-Clock`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Causality {
    /// The caller's journal entry that led to this request.
    pub(super) causation_id: Option<Uuid>,
    /// The caller's clock.
    pub(super) clock: Option<HybridTime>,
}

impl Causality {
    /// As the headers tell it.
    pub(super) fn of(headers: &HeaderMap) -> Self {
        Self { causation_id: lone(headers, &X_CAUSATION_ID), clock: lone(headers, &X_HYBRID_CLOCK) }
    }
}

/// The header's value, if there is exactly one and it is well-formed.
fn lone<T: FromStr>(headers: &HeaderMap, name: &HeaderName) -> Option<T> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (Some(value), None) => value.to_str().ok()?.parse().ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(given: &[(&HeaderName, &str)]) -> Causality {
        let mut headers = HeaderMap::new();
        for (name, value) in given {
            headers.append(*name, value.parse().unwrap());
        }
        Causality::of(&headers)
    }

    #[test]
    fn what_is_malformed_or_said_twice_is_absent() {
        let (id, clock) = (Uuid::now_v7(), "0123456789abcdef");
        let good = read(&[(&X_CAUSATION_ID, &id.to_string()), (&X_HYBRID_CLOCK, clock)]);
        assert_eq!(good, Causality { causation_id: Some(id), clock: clock.parse().ok() });
        let nothing = Causality { causation_id: None, clock: None };
        assert_eq!(read(&[]), nothing);
        assert_eq!(read(&[(&X_CAUSATION_ID, "1"), (&X_HYBRID_CLOCK, "now")]), nothing);
        assert_eq!(read(&[(&X_HYBRID_CLOCK, clock), (&X_HYBRID_CLOCK, clock)]), nothing);
    }
}
