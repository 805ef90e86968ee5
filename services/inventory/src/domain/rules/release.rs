//! The decision about a release.

use std::sync::Arc;

use journal::{Alternative, Rule, Verdict};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::domain::reservation::{ReservationEvent, ReservationState, transition};
use crate::domain::stock::Line;

/// Decides a release. A held reservation is released, also after its end. An unknown reservation is voided, so that a late
/// reserve is rejected. Every other reservation keeps its state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Release {
    /// Id of the order; null when it is not known.
    pub order_id: Option<Uuid>,
    /// Lines of the reservation.
    pub lines: Arc<[Line]>,
    /// State of the reservation; null when no reserve has arrived.
    pub state: Option<ReservationState>,
    /// Version of the reservation's newest entry; 0 before the first.
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
            (Err(_), None) => unreachable!("an unknown reservation is voided: see the transition function"),
        }
    }
}
