//! Confirming and cancelling an order. The intent is committed before inventory is asked.

use std::sync::Arc;

use journal::idempotency::{claim, complete};
use journal::{DatabaseError, Decided, Draft, Step};
use time::format_description::well_known::Rfc3339;
use uuid::Uuid;

use super::place::lease_ms;
use super::{App, Caller, Done, IntentCommitted, Refused, replies};
use crate::domain::Status;
use crate::domain::rules::{Intend, Place, Wish};
use crate::store::orders::NextAttempt;
use crate::store::{Order, StoredStatus, orders};

/// Result of the transaction that commits the intent.
enum Begin {
    Intent(Arc<Order>),
    AtRest(journal::StoredReply),
    KeyTaken,
    NotFound,
    NotYet(Status),
    Foreign(String),
    TooLate,
}

impl App {
    /// Confirms or cancels an order: commits the intent, asks inventory, records the answer.
    ///
    /// # Cancellation
    /// Run it in a shield. If it is dropped between its transactions, the reconciler finishes the order.
    pub async fn wish(
        &self,
        caller: Caller,
        id: Uuid,
        wish: Wish,
        begun: IntentCommitted,
    ) -> Result<Done, Refused> {
        let key = caller.claim(wish.as_str(), id);
        let deadline = Some(caller.context.deadline.instant());
        let begin = self
            .database
            .alone(deadline, (self, &caller, &key, id, wish), |connection, &(app, caller, key, id, wish)| {
                Box::pin(async move {
                    if !claim(connection, key).await? {
                        return Ok(Step::Rollback(Begin::KeyTaken));
                    }
                    let Some(order) = orders::lock(connection, id, &caller.cause.principal).await? else {
                        return Ok(Step::Rollback(Begin::NotFound));
                    };
                    let order = match order.status {
                        StoredStatus::Known(status) => order.with_status(status),
                        StoredStatus::Unknown(from) => return Ok(Step::Rollback(Begin::Foreign(from))),
                    };
                    // Others may have had the row for long.
                    if caller.context.deadline.has_passed() {
                        return Ok(Step::Rollback(Begin::TooLate));
                    }
                    if order.status.after(wish.event()).is_ok() {
                        let (moved, sealed) = app.intend(caller, &order, wish);
                        let (from, moved, replies) = (Arc::new(order), Arc::new(moved), Vec::new());
                        let due = NextAttempt::Lease(lease_ms(caller));
                        let advance = orders::Advance { from, moved: moved.clone(), due, sealed, replies };
                        let done = orders::advance(connection, &[Arc::new(advance)]).await?;
                        if matches!(done, Step::Rollback(_)) {
                            return Err(sqlx::Error::Protocol("a locked row was changed".to_owned()));
                        }
                        return Ok(Step::Commit(Begin::Intent(moved)));
                    }
                    let correlation_id = caller.context.correlation_id.as_str();
                    match replies::of_rest(&order, wish, correlation_id) {
                        Some(reply) => {
                            complete(connection, key, &reply).await?;
                            Ok(Step::Commit(Begin::AtRest(reply)))
                        }
                        None => Ok(Step::Rollback(Begin::NotYet(order.status))),
                    }
                })
            })
            .await;
        let begin = match begin {
            // COMMIT outcome unknown: the key's row tells it. If it succeeded, the reconciler advances the order.
            Err(unknown @ DatabaseError::Unknown(_)) => {
                return self.settled(&caller).await.map_err(|_| Refused::Database(unknown));
            }
            known => known?,
        };
        match begin {
            Begin::Intent(order) => {
                // A send fails when the client has left. The order advances all the same.
                let _ = begun.send(Arc::clone(&order));
                self.drive_for(&caller, order, wish.as_str()).await
            }
            Begin::AtRest(reply) => Ok(Done::Final(reply)),
            Begin::KeyTaken => self.repeat(&caller, wish.as_str()).await,
            Begin::NotFound => Err(Refused::NotFound),
            Begin::TooLate => Err(DatabaseError::Deadline.into()),
            Begin::Foreign(from) => Err(Refused::Foreign { from, to: wish.goal() }),
            Begin::NotYet(from) => Err(Refused::NotYet { from, to: wish.goal() }),
        }
    }

    fn intend(&self, caller: &Caller, order: &Order, wish: Wish) -> (Order, journal::Sealed) {
        self.clocks.adopt_head(order.head_clock);
        let rule = Intend {
            state: order.status,
            wish,
            reservation_id: order.reservation_id,
            expires_at: order.expires_at.and_then(|t| t.format(&Rfc3339).ok()),
            deadline_left_ms: u64::try_from(caller.context.deadline.remaining().as_millis())
                .unwrap_or(u64::MAX),
            if_unknown: Place::IF_UNKNOWN.into(),
        };
        let (status, decided) = Decided::by(&rule);
        let sealed = self.journal.seal(Draft {
            aggregate_id: order.id,
            head: Some(order.head()),
            command: wish.as_str(),
            cause: &caller.cause,
            causation_id: None,
            decided,
            attempt: caller.context.attempt,
            evidence: chassis::evidence(&caller.context.trail, None),
            payload_hash: None,
        });
        let moved = Order { epoch: order.epoch + 1, in_flight: true, ..order.after(status, &sealed) };
        (moved, sealed)
    }
}
