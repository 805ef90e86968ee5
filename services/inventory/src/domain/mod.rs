//! The decisions of inventory: the states, the legal moves between them, and the rules that choose a move. No clock, no
//! I/O, no async: everything that a rule reads is one of its fields.
//!
//! | module | holds |
//! |---|---|
//! | [`stock`] | SKUs, quantities and lines that are valid once they exist |
//! | [`reservation`] | the states of a reservation and its transition function |
//! | [`item`] | the state of an item and its transition function |
//! | [`rules`] | the decisions, one file each, and their re-execution |

pub mod item;
pub mod reservation;
pub mod rules;
pub mod stock;

pub use item::ItemState;
pub use reservation::ReservationState;
pub use rules::replay;

/// A move that the state does not allow.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a {kind} that is {from} cannot become {to}")]
pub struct Illegal {
    /// `reservation` or `item`.
    pub kind: &'static str,
    /// The present state; `none` before the first entry.
    pub from: &'static str,
    /// The requested state.
    pub to: &'static str,
    /// The states that can follow `from`.
    pub allowed: Vec<&'static str>,
}

impl Illegal {
    /// The refused move of `kind` from `from` to `to`, with the moves that are allowed.
    pub fn between(kind: &'static str, from: &'static str, to: &'static str) -> Self {
        let allowed = TRANSITIONS.iter().filter(|(k, f, _)| *k == kind && *f == from).map(|(.., to)| *to);
        Self { kind, from, to, allowed: allowed.collect() }
    }

    /// True if no state can follow `from`, so that the refusal is final.
    pub fn is_terminal(&self) -> bool {
        self.allowed.is_empty()
    }
}

/// Every legal move, as (kind, from, to). The database has the same table, with a foreign key from the journal to it.
/// Tests show that this table, the database's and the transition functions are equal.
pub const TRANSITIONS: [(&str, &str, &str); 8] = [
    ("item", "none", "stocked"),
    ("item", "stocked", "stocked"),
    ("reservation", "held", "confirmed"),
    ("reservation", "held", "expired"),
    ("reservation", "held", "released"),
    ("reservation", "none", "held"),
    ("reservation", "none", "refused"),
    ("reservation", "none", "voided"),
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use journal::State as _;
    use journal::rule::NONE;

    use super::item::ItemEvent;
    use super::reservation::ReservationEvent;
    use super::*;

    #[test]
    fn the_transition_functions_allow_exactly_what_the_table_lists() {
        let mut allowed = BTreeSet::new();
        for from in std::iter::once(None).chain(ReservationState::ALL.map(Some)) {
            let name = from.map_or(NONE, ReservationState::as_str);
            for event in ReservationEvent::ALL {
                match reservation::transition(from, event) {
                    Ok(to) => assert!(allowed.insert(("reservation", name, to.as_str())), "{name} {event:?}"),
                    Err(illegal) => assert_eq!(illegal.from, name),
                }
            }
        }
        for from in [None, Some(ItemState::Stocked)] {
            for event in [ItemEvent::Created, ItemEvent::Received] {
                if let Ok(to) = item::transition(from, event) {
                    allowed.insert(("item", from.map_or(NONE, ItemState::as_str), to.as_str()));
                }
            }
        }
        assert_eq!(allowed, BTreeSet::from(TRANSITIONS));
    }

    #[test]
    fn only_held_can_be_left() {
        for state in ReservationState::ALL {
            let illegal = Illegal::between("reservation", state.as_str(), "held");
            assert_eq!(illegal.is_terminal(), state != ReservationState::Held, "{state:?}");
        }
        let open = Illegal::between("reservation", NONE, "confirmed");
        assert_eq!(open.allowed, ["held", "refused", "voided"]);
        assert_eq!(open.to_string(), "a reservation that is none cannot become confirmed");
    }

    #[test]
    fn every_state_parses_from_its_stable_name() {
        for state in ReservationState::ALL {
            assert_eq!(ReservationState::parse(state.as_str()), Some(state));
            let json = serde_json::to_value(state).unwrap();
            assert_eq!(json, state.as_str(), "the name in inputs is the name in the database");
        }
        assert_eq!(ReservationState::parse(NONE), None);
    }
}
