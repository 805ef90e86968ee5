//! The decision whether a hold has expired.

use std::sync::Arc;

use journal::{Alternative, Rule, Verdict};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use uuid::Uuid;

use super::text;
use crate::domain::status::{Event, Reservation, Status};
use crate::domain::stock::Line;

/// Decides the expiry of a hold that the sweep found due.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Expire {
    /// Id of the order.
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
    /// End of the hold.
    #[serde(with = "time::serde::rfc3339::option")]
    pub expires_at: Option<OffsetDateTime>,
}

/// Decides the expiry of a reservation at `now`: the rule and the expired reservation; `None` when it is not held or its
/// hold has not ended.
pub fn expire(known: &Reservation, now: OffsetDateTime) -> Option<(Expire, Reservation)> {
    let rule = Expire {
        order_id: known.order_id,
        lines: known.lines.clone(),
        state: known.status,
        version: known.version,
        now,
        expires_at: known.expires_at,
    };
    let status = rule.decide().to;
    (status != known.status).then(|| (rule, known.moved(status)))
}

impl Rule for Expire {
    const NAME: &'static str = "inventory.expire@1";
    type State = Status;

    fn decide(&self) -> Verdict<Status> {
        let stay = |because: String| Verdict {
            to: self.state,
            alternatives: vec![Alternative::new(Status::Expired, because)],
        };
        let Some(end) = self.expires_at else { return stay("it never held anything".to_owned()) };
        if self.now < end {
            return stay(format!("now {} < expires_at {}", text(self.now), text(end)));
        }
        match Status::after(Some(self.state), Event::Expired) {
            Ok(to) => Verdict {
                to,
                alternatives: vec![Alternative::new(
                    Status::Held,
                    format!("now {} >= expires_at {}", text(self.now), text(end)),
                )],
            },
            Err(illegal) => stay(illegal.to_string()),
        }
    }
}
