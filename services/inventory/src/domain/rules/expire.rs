//! The decision whether a hold has expired.

use std::sync::Arc;

use journal::{Alternative, Rule, Verdict};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use uuid::Uuid;

use super::text;
use crate::domain::reservation::{ReservationEvent, ReservationState, transition};
use crate::domain::stock::Line;

/// Decides the expiry of a hold that the sweep found due.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Expire {
    /// Id of the order.
    pub order_id: Option<Uuid>,
    /// Lines of the reservation.
    pub lines: Arc<[Line]>,
    /// State of the reservation.
    pub state: ReservationState,
    /// Version of the reservation's newest entry.
    pub version: i64,
    /// Time of the database's clock, read after the row was locked.
    #[serde(with = "time::serde::rfc3339")]
    pub now: OffsetDateTime,
    /// End of the hold.
    #[serde(with = "time::serde::rfc3339::option")]
    pub expires_at: Option<OffsetDateTime>,
}

impl Rule for Expire {
    const NAME: &'static str = "inventory.expire@1";
    type State = ReservationState;

    fn decide(&self) -> Verdict<ReservationState> {
        let stay = |because: String| Verdict {
            to: self.state,
            alternatives: vec![Alternative::new(ReservationState::Expired, because)],
        };
        let Some(end) = self.expires_at else { return stay("it never held anything".to_owned()) };
        if self.now < end {
            return stay(format!("now {} < expires_at {}", text(self.now), text(end)));
        }
        match transition(Some(self.state), ReservationEvent::Expired) {
            Ok(to) => Verdict {
                to,
                alternatives: vec![Alternative::new(
                    ReservationState::Held,
                    format!("now {} >= expires_at {}", text(self.now), text(end)),
                )],
            },
            Err(illegal) => stay(illegal.to_string()),
        }
    }
}
