//! Giving back what was held for too long.

use std::sync::Arc;

use journal::{Cause, DatabaseError, Decided, Draft, Keys, Sealed, Step};
use sqlx::PgConnection;
use time::OffsetDateTime;

use super::Inventory;
use super::execute::Moved;
use crate::domain::ReservationState;
use crate::domain::rules;
use crate::store::reservations::{self, Move, Reservation};

/// The principal of the sweep that runs by itself.
pub const SWEEP: &str = "sweep:expiry";

/// Holds ended in one transaction: at about 0.3 ms an entry, one batch keeps its items locked for some 15 ms.
const BATCH: i64 = 50;

impl Inventory {
    /// Ends every hold whose time is up and that nobody else is busy with, in the name of `principal`; gives how
    /// many. Any number of processes may do this at once.
    pub async fn expire_due(&self, principal: &str) -> Result<u64, DatabaseError> {
        let mut total = 0;
        loop {
            let done = self
                .0
                .database
                .transaction(None, (self, principal), |connection, &(inventory, principal)| {
                    Box::pin(inventory.expire_batch(principal, connection))
                })
                .await?;
            for _ in 0..done {
                Moved::to(ReservationState::Expired).count();
            }
            total += done;
            if done < BATCH.unsigned_abs() {
                return Ok(total);
            }
        }
    }

    async fn expire_batch(
        &self,
        principal: &str,
        connection: &mut PgConnection,
    ) -> Result<Step<u64>, sqlx::Error> {
        let due = reservations::lock_due(connection, BATCH).await?;
        let Some(now) = due.iter().map(|(now, _)| *now).max() else { return Ok(Step::Rollback(0)) };
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
        Ok(Step::Commit(moves.len() as u64))
    }

    /// The cause of an expiry is the hold; it belongs to the request that asked for it.
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
            version: known.newest.version,
            now,
            expires_at: known.expires_at,
        };
        let (to, decided) = Decided::by(&rule);
        if to == known.state {
            return None;
        }
        let sealed = self.0.journal.seal(Draft {
            aggregate_id: known.id,
            head: self.chain(Some((known.state, &known.newest))),
            command: "expire",
            cause: &Cause {
                principal: principal.into(),
                key_hash: None,
                correlation_id: Arc::clone(&known.correlation_id),
                trace_id: None,
            },
            causation_id: Some(known.newest.entry_id),
            decided,
            attempt: 1,
            evidence: chassis::evidence(&mainstay::DecisionTrail::new(), None),
            payload_hash: None,
        });
        Some((to, sealed))
    }
}
