//! The decision whether a held reservation is confirmed.

use std::sync::Arc;

use journal::{Alternative, Rule, State, Verdict};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use uuid::Uuid;

use super::text;
use crate::domain::reservation::{ReservationEvent, ReservationState, transition};
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
    pub state: ReservationState,
    /// Version of the reservation's newest entry.
    pub version: i64,
    /// Time of the database's clock, read after the row was locked.
    #[serde(with = "time::serde::rfc3339")]
    pub now: OffsetDateTime,
    /// End of the hold; null for a reservation that never held stock.
    #[serde(with = "time::serde::rfc3339::option")]
    pub expires_at: Option<OffsetDateTime>,
}

impl Rule for Confirm {
    const NAME: &'static str = "inventory.confirm@1";
    type State = ReservationState;

    fn decide(&self) -> Verdict<ReservationState> {
        let (event, other, because) = match self.expires_at {
            Some(end) if self.now >= end => (
                ReservationEvent::Expired,
                ReservationState::Confirmed,
                format!("now {} >= expires_at {}", text(self.now), text(end)),
            ),
            Some(end) => (
                ReservationEvent::Confirmed,
                ReservationState::Expired,
                format!("now {} < expires_at {}", text(self.now), text(end)),
            ),
            None => (
                ReservationEvent::Confirmed,
                ReservationState::Expired,
                "it has no end, for it never held anything".to_owned(),
            ),
        };
        match transition(Some(self.state), event) {
            Ok(to) => Verdict { to, alternatives: vec![Alternative::new(other, because)] },
            Err(illegal) => Verdict {
                to: self.state,
                alternatives: vec![Alternative {
                    to: ReservationState::Confirmed.as_str().into(),
                    refused_because: illegal.to_string().into(),
                }],
            },
        }
    }
}
