//! What becomes of a reservation that nobody wants any more.

use std::sync::Arc;

use journal::{Alternative, Rule, Verdict};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::domain::reservation::{ReservationEvent, ReservationState, transition};
use crate::domain::stock::Line;

/// A hold is given back, also after its time; one never seen is voided, so that a reserve still on its way finds
/// the door shut. Everything else stays as it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Release {
    /// For whom it was held; null when that is not known.
    pub order_id: Option<Uuid>,
    /// What it holds.
    pub lines: Arc<[Line]>,
    /// Where it stands; null when it was never seen.
    pub state: Option<ReservationState>,
    /// The version of its newest entry, 0 before the first.
    pub version: i64,
}

impl Rule for Release {
    const NAME: &'static str = "inventory.release@1";
    type State = ReservationState;

    fn decide(&self) -> Verdict<ReservationState> {
        let legal = transition(self.state, ReservationEvent::Released);
        match (legal, self.state) {
            (Ok(to), None) => Verdict {
                to,
                alternatives: vec![Alternative::new(ReservationState::Released, "it was never seen")],
            },
            (Ok(to), Some(_)) => {
                Verdict { to, alternatives: vec![Alternative::new(ReservationState::Voided, "it was seen")] }
            }
            (Err(illegal), Some(state)) => Verdict {
                to: state,
                alternatives: vec![Alternative::new(ReservationState::Released, illegal.to_string())],
            },
            (Err(_), None) => unreachable!("one never seen is voided: see the transition function"),
        }
    }
}
