//! Expiring holds: their stock is given back after their end.
//!
//! Due holds are expired in batches. A hold may fail to expire, because its row cannot be read, because the database
//! refuses the write, or because another transaction keeps its items locked. It does not delay the others: the holds of
//! its batch are expired one by one, and it is set aside for a growing time.

use std::collections::HashSet;
use std::sync::Arc;

use chassis::tasks::caught;
use journal::{Cause, DatabaseError, Decided, Draft, Keys, Sealed, Step};
use sqlx::PgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

use super::Inventory;
use super::execute::Moved;
use super::set_aside::Why;
use crate::domain::ReservationState;
use crate::domain::rules;
use crate::store::reservations::{self, DueCursor, Move, Reservation};

/// Principal of the periodic sweep.
pub const SWEEP: &str = "sweep:expiry";

/// Holds expired in one transaction. An entry takes about 0.3 ms, so one batch keeps its items locked for some 15 ms.
const BATCH: i64 = 50;

/// Number of expired holds, and the rows that cannot be read.
type Ended = (u64, Vec<(Uuid, String)>);

impl Inventory {
    /// Expires every due hold that no other transaction has locked, in the name of `principal`, and gives their number. Any
    /// number of processes may do this at once.
    pub async fn expire_due(&self, principal: &str) -> Result<u64, DatabaseError> {
        let (mut total, mut met) = (0, HashSet::new());
        let mut cursor = Some(DueCursor::start());
        while let Some(from) = cursor {
            let read = self
                .0
                .database
                .read(None, from, |connection, from| Box::pin(reservations::due(connection, from, BATCH)));
            let (mut ids, next) = read.await?;
            let is_last = ids.len() < usize::try_from(BATCH).unwrap_or(usize::MAX);
            met.extend(ids.iter().copied());
            ids.retain(|id| !self.0.aside.is_waiting(*id));
            if !ids.is_empty() {
                total += self.expire_all(&ids, principal).await?;
            }
            cursor = next.filter(|_| !is_last);
        }
        self.0.aside.keep(&met);
        Ok(total)
    }

    async fn expire_all(&self, ids: &[Uuid], principal: &str) -> Result<u64, DatabaseError> {
        // A panic over one hold is that hold's failure, and ends no sweep.
        let ended = caught(self.expire_together(ids, principal)).await;
        match ended
            .unwrap_or_else(|lost| Err(DatabaseError::Defect(Arc::new(sqlx::Error::Decode(lost.into())))))
        {
            Err(DatabaseError::Defect(_) | DatabaseError::Busy(_)) if ids.len() > 1 => {}
            Err(error @ (DatabaseError::Defect(_) | DatabaseError::Busy(_))) => {
                self.0.aside.put(ids[0], Why::of(&error));
                return Ok(0);
            }
            ended => return ended,
        }
        let mut total = 0;
        for id in ids {
            total += Box::pin(self.expire_all(std::slice::from_ref(id), principal)).await?;
        }
        Ok(total)
    }

    /// Expires holds in one transaction.
    async fn expire_together(&self, ids: &[Uuid], principal: &str) -> Result<u64, DatabaseError> {
        let (ended, unreadable) = self
            .0
            .database
            .hurried(None, (self, ids, principal), |connection, &(inventory, ids, principal)| {
                Box::pin(inventory.expire_batch(ids, principal, connection))
            })
            .await?;
        self.0.aside.forget(ids.iter().filter(|id| !unreadable.iter().any(|(other, _)| other == *id)));
        for (id, fault) in unreadable {
            self.0.unreadable.note("reservations", id, &fault);
            self.0.aside.put(id, Why::Unreadable);
        }
        for _ in 0..ended {
            Moved::to(ReservationState::Expired).count();
        }
        Ok(ended)
    }

    async fn expire_batch(
        &self,
        ids: &[Uuid],
        principal: &str,
        connection: &mut PgConnection,
    ) -> Result<Step<Ended>, sqlx::Error> {
        let (mut due, mut unreadable) = (Vec::new(), Vec::new());
        for row in reservations::lock_due(connection, ids).await? {
            match row {
                Ok(hold) => due.push(hold),
                Err(fault) => unreadable.push(fault),
            }
        }
        let Some(now) = due.iter().map(|(now, _)| *now).max() else {
            return Ok(Step::Rollback((0, unreadable)));
        };
        let ended: Vec<(&Reservation, ReservationState, Sealed)> = due
            .iter()
            .filter_map(|(now, known)| {
                let (to, sealed) = self.expire(known, *now, principal)?;
                Some((known, to, sealed))
            })
            .collect();
        let moves: Vec<_> =
            ended.iter().map(|(known, to, sealed)| Move { from: known, to: *to, sealed }).collect();
        reservations::leave_held(connection, &moves, now, Keys::Leave).await?;
        Ok(Step::Commit((moves.len() as u64, unreadable)))
    }

    /// Decides and seals the expiry of one hold; `None` when it is not due. The cause is the entry of the hold, and the
    /// correlation id belongs to the request that asked for the hold.
    fn expire(
        &self,
        known: &Reservation,
        now: OffsetDateTime,
        principal: &str,
    ) -> Option<(ReservationState, Sealed)> {
        let rule = rules::Expire {
            order_id: known.order_id,
            lines: known.lines.clone(),
            state: known.state,
            version: known.head.version,
            now,
            expires_at: known.expires_at,
        };
        let (to, decided) = Decided::by(&rule);
        if to == known.state {
            return None;
        }
        let sealed = self.0.journal.seal(Draft {
            aggregate_id: known.id,
            head: self.chain(Some((known.state, &known.head))),
            command: "expire",
            cause: &Cause {
                principal: principal.into(),
                key_hash: None,
                correlation_id: Arc::clone(&known.correlation_id),
                trace_id: None,
            },
            causation_id: Some(known.head.entry_id),
            decided,
            attempt: 1,
            evidence: chassis::evidence(&mainstay::DecisionTrail::new(), None),
            payload_hash: None,
        });
        Some((to, sealed))
    }
}
