//! The decision whether a held reservation is confirmed.

use std::sync::Arc;

use journal::{Alternative, Rule, Verdict};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use uuid::Uuid;

use super::{Decision, text};
use crate::domain::outcome::{Outcome, Refusal};
use crate::domain::status::{Event, Illegal, Reservation, Status};
use crate::domain::stock::Line;

/// Decides a confirm. A hold can be confirmed until the instant at which it expires; from then on a confirm expires it.
/// Only inventory's clock decides expiry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Confirm {
    /// Id of the order; null for a reservation that was voided before its reserve arrived.
    pub order_id: Option<Uuid>,
    /// Lines of the reservation.
    pub lines: Arc<[Line]>,
    /// State of the reservation.
    pub state: Status,
    /// Version of the reservation's newest entry.
    pub version: i64,
    /// Time of the database's clock, read after the row was locked.
    #[serde(with = "time::serde::rfc3339")]
    pub now: OffsetDateTime,
    /// End of the hold; null for a reservation that never held stock.
    #[serde(with = "time::serde::rfc3339::option")]
    pub expires_at: Option<OffsetDateTime>,
}

/// Decides a confirm of the reservation `id`, which was found with the time after its lock.
pub fn confirm(id: Uuid, found: Option<(&Reservation, OffsetDateTime)>) -> Decision<Confirm, Reservation> {
    let Some((known, now)) = found else { return Decision::NotYet(Refusal::NoReservation(id)) };
    let rule = Confirm {
        order_id: known.order_id,
        lines: known.lines.clone(),
        state: known.status,
        version: known.version,
        now,
        expires_at: known.expires_at,
    };
    let status = rule.decide().to;
    let after = if status == known.status { known.clone() } else { known.moved(status) };
    let outcome = match status {
        Status::Confirmed => Outcome::Present(after.clone()),
        Status::Expired => Outcome::Refused(Refusal::ReservationExpired { id, expires_at: known.expires_at }),
        Status::Held | Status::Released | Status::Refused | Status::Voided => {
            Outcome::Refused(Refusal::IllegalTransition(Illegal::event(Some(status), Event::Confirmed)))
        }
    };
    if status == known.status {
        Decision::Unchanged(outcome)
    } else {
        Decision::Transition { rule, after, outcome }
    }
}

impl Rule for Confirm {
    const NAME: &'static str = "inventory.confirm@1";
    type State = Status;

    fn decide(&self) -> Verdict<Status> {
        let (event, other, because) = match self.expires_at {
            Some(end) if self.now >= end => (
                Event::Expired,
                Status::Confirmed,
                format!("now {} >= expires_at {}", text(self.now), text(end)),
            ),
            Some(end) => (
                Event::Confirmed,
                Status::Expired,
                format!("now {} < expires_at {}", text(self.now), text(end)),
            ),
            None => {
                (Event::Confirmed, Status::Expired, "it has no end, for it never held anything".to_owned())
            }
        };
        match Status::after(Some(self.state), event) {
            Ok(to) => Verdict { to, alternatives: vec![Alternative::new(other, because)] },
            Err(illegal) => Verdict {
                to: self.state,
                alternatives: vec![Alternative::new(Status::Confirmed, illegal.to_string())],
            },
        }
    }
}
