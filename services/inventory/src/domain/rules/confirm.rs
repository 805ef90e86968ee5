//! Whether a hold can still be turned into shipped stock.

use std::sync::Arc;

use journal::{Alternative, Rule, State, Verdict};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use uuid::Uuid;

use super::text;
use crate::domain::reservation::{ReservationEvent, ReservationState, transition};
use crate::domain::stock::Line;

/// A hold is good until the instant it expires; from then on asking for it ends it. Only inventory's clock judges.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Confirm {
    /// For whom it is held; null for one voided before it was seen.
    pub order_id: Option<Uuid>,
    /// What it holds.
    pub lines: Arc<[Line]>,
    /// Where it stands.
    pub state: ReservationState,
    /// The version of its newest entry.
    pub version: i64,
    /// The database's clock, read after the row was locked.
    #[serde(with = "time::serde::rfc3339")]
    pub now: OffsetDateTime,
    /// When the hold ends; null for one that never held.
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
