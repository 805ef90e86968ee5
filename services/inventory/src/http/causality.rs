//! The cause of a request: the order service's journal entry and clock.
//!
//! A malformed header counts as absent, because a request must not fail for a header that only explains it. Headers of
//! clients and operators are ignored: they have no journal, so their values would falsify the causes and the clock here.

use std::str::FromStr;

use chassis::Role;
use http::{HeaderMap, HeaderName};
use inventory_api::{X_CAUSATION_ID, X_HYBRID_CLOCK};
use journal::HybridTime;
use uuid::Uuid;

/// The values of `X-Causation-Id` and `X-Hybrid-Clock`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Causality {
    /// Id of the caller's journal entry that led to the request.
    pub(super) causation_id: Option<Uuid>,
    /// Time of the caller's hybrid clock.
    pub(super) clock: Option<HybridTime>,
}

impl Causality {
    /// A request without a cause in another journal.
    const NONE: Self = Self { causation_id: None, clock: None };

    /// The cause that the headers name, if the caller is a service.
    pub(super) fn of(role: Role, headers: &HeaderMap) -> Self {
        match role {
            Role::Service => {
                Self { causation_id: lone(headers, &X_CAUSATION_ID), clock: lone(headers, &X_HYBRID_CLOCK) }
            }
            Role::Client | Role::Operator => Self::NONE,
        }
    }
}

/// The value of the header, if the header is sent exactly once and is well-formed.
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
        for role in [Role::Client, Role::Operator] {
            assert_eq!(Causality::of(role, &headers), Causality::NONE);
        }
        Causality::of(Role::Service, &headers)
    }

    #[test]
    fn a_header_that_is_malformed_or_sent_twice_or_not_by_a_service_is_absent() {
        let (id, clock) = (Uuid::now_v7(), "0123456789abcdef");
        let good = read(&[(&X_CAUSATION_ID, &id.to_string()), (&X_HYBRID_CLOCK, clock)]);
        assert_eq!(good, Causality { causation_id: Some(id), clock: clock.parse().ok() });
        let nothing = Causality::NONE;
        assert_eq!(read(&[]), nothing);
        assert_eq!(read(&[(&X_CAUSATION_ID, "1"), (&X_HYBRID_CLOCK, "now")]), nothing);
        assert_eq!(read(&[(&X_HYBRID_CLOCK, clock), (&X_HYBRID_CLOCK, clock)]), nothing);
    }
}
