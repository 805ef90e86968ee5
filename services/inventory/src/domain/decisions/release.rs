//! The decision about a release.

use std::sync::Arc;

use journal::{Alternative, Rule, Verdict};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use uuid::Uuid;

use super::Decision;
use crate::domain::outcome::{Outcome, Refusal};
use crate::domain::status::{Event, Illegal, Reservation, Status};
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
    pub state: Option<Status>,
    /// Version of the reservation's newest entry; 0 before the first.
    pub version: i64,
}

/// Decides a release of the reservation `id`, which was found with the time after its lock.
pub fn release(id: Uuid, found: Option<(&Reservation, OffsetDateTime)>) -> Decision<Release, Reservation> {
    let known = found.map(|(known, _)| known);
    let rule = Release {
        order_id: known.and_then(|known| known.order_id),
        lines: known.map(|known| known.lines.clone()).unwrap_or_default(),
        state: known.map(|known| known.status),
        version: known.map_or(0, |known| known.version),
    };
    let status = rule.decide().to;
    let after = match known {
        Some(known) if status == known.status => {
            return Decision::Unchanged(match status {
                Status::Confirmed => Outcome::Refused(Refusal::IllegalTransition(Illegal::event(
                    Some(status),
                    Event::Released,
                ))),
                Status::Held | Status::Released | Status::Expired | Status::Refused | Status::Voided => {
                    Outcome::Present(known.clone())
                }
            });
        }
        Some(known) => known.moved(status),
        // The release overtook its reserve. A tombstone exists from now on, so a late reserve is rejected.
        None => Reservation {
            id,
            order_id: None,
            status,
            lines: Arc::default(),
            hold_seconds: None,
            expires_at: None,
            version: 1,
        },
    };
    Decision::Transition { rule, outcome: Outcome::Present(after.clone()), after }
}

impl Rule for Release {
    const NAME: &'static str = "inventory.release@1";
    type State = Status;

    fn decide(&self) -> Verdict<Status> {
        let (to, refused) = match (Status::after(self.state, Event::Released), self.state) {
            (Ok(to), None) => (to, Alternative::new(Status::Released, "it was never seen")),
            (Ok(to), Some(_)) => (to, Alternative::new(Status::Voided, "it was seen")),
            (Err(illegal), Some(state)) => (state, Alternative::new(Status::Released, illegal.to_string())),
            (Err(_), None) => unreachable!("an unknown reservation is voided: see the transition function"),
        };
        Verdict { to, alternatives: vec![refused] }
    }
}
