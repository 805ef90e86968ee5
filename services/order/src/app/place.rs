//! Placing an order. The order is committed before inventory is asked.

use std::sync::Arc;

use inventory_api::Line;
use journal::idempotency::look;
use journal::{DatabaseError, Decided, Draft};
use uuid::Uuid;

use super::replies::PLACE;
use super::{App, Caller, Done, IntentCommitted, Refused};
use crate::app::drive::{derived, request};
use crate::domain::rules::Place;
use crate::store::orders::Placed;
use crate::store::work::LEASE_MS;
use crate::store::{Order, orders};

/// A valid order that a client wants to place.
#[derive(Debug, Clone)]
pub struct NewOrder {
    /// Id of the customer.
    pub customer_id: Arc<str>,
    /// Validated order lines: SKU and quantity.
    pub lines: Arc<[Line]>,
}

impl App {
    /// Places an order: commits the intent, asks inventory to hold the lines, records the answer.
    ///
    /// # Cancellation
    /// Run it in a shield. If it is dropped between its transactions, the reconciler finishes the order.
    pub async fn place(
        &self,
        caller: Caller,
        new: NewOrder,
        begun: IntentCommitted,
    ) -> Result<Done, Refused> {
        let (order, sealed) = self.new_order(&caller, new);
        let order = Arc::new(order);
        let key = caller.claim(PLACE, order.id);
        let deadline = caller.context.deadline.instant();
        let new = orders::Place { order: order.clone(), sealed, key, lease_ms: lease_ms(&caller), deadline };
        let placed = match self.placing.write(Some(deadline), Arc::new(new)).await {
            Err(unknown @ DatabaseError::Unknown(_)) => {
                self.was_claimed(&caller, &order).await.ok_or(unknown)?
            }
            known => known?,
        };
        match placed {
            Placed::New => {}
            Placed::KeyTaken => return self.repeat(&caller, PLACE).await,
            Placed::TooLate => return Err(DatabaseError::Deadline.into()),
        }
        // A send fails when the client has left. The order advances all the same.
        let _ = begun.send(order.clone());
        self.drive_for(&caller, order, PLACE).await
    }

    fn new_order(&self, caller: &Caller, new: NewOrder) -> (Order, journal::Sealed) {
        let id = Uuid::now_v7();
        let reservation_id = derived(id, "reservation");
        let rule = Place {
            customer_id: Arc::clone(&new.customer_id),
            lines: Arc::clone(&new.lines),
            reservation_id,
            hold_seconds: self.hold_seconds,
            deadline_left_ms: u64::try_from(caller.context.deadline.remaining().as_millis())
                .unwrap_or(u64::MAX),
            if_unknown: Place::IF_UNKNOWN.into(),
        };
        let (status, decided) = Decided::by(&rule);
        let request = request(id, reservation_id, &new.lines, self.hold_seconds);
        let sealed = self.journal.seal(Draft {
            aggregate_id: id,
            head: None,
            command: PLACE,
            cause: &caller.cause,
            causation_id: None,
            decided,
            attempt: caller.context.attempt,
            evidence: chassis::evidence(&caller.context.trail, None),
            payload_hash: Some(journal::entry::payload_hash(&request)),
        });
        let order = Order {
            id,
            principal: Arc::clone(&caller.cause.principal),
            customer_id: new.customer_id,
            lines: new.lines,
            status,
            reservation_id,
            hold_seconds: self.hold_seconds,
            expires_at: None,
            correlation_id: Arc::clone(&caller.cause.correlation_id),
            trace_id: caller.cause.trace_id.clone(),
            created_at: sealed.at,
            updated_at: sealed.at,
            version: sealed.version,
            head_hash: sealed.hash,
            head_entry: sealed.id,
            head_clock: sealed.hlc,
            head_correlation_id: Arc::clone(&sealed.correlation_id),
            epoch: 1,
            in_flight: true,
            tries: 0,
            failed_alone: 0,
        };
        (order, sealed)
    }

    /// Finds out what an unanswered COMMIT did: the key belongs to this order, or to another one. `None` when the database
    /// does not tell.
    async fn was_claimed(&self, caller: &Caller, order: &Order) -> Option<Placed> {
        let row = self
            .database
            .read(Some(caller.context.deadline.instant()), caller, |connection, caller| {
                Box::pin(look(connection, &caller.cause.principal, &caller.key_hash))
            })
            .await
            .ok()??;
        Some(if row.aggregate_id == order.id { Placed::New } else { Placed::KeyTaken })
    }
}

/// Length of a request's lease, in milliseconds: until two seconds after its deadline, which is time to record the
/// answer, and at most [`LEASE_MS`]. Then the reconciler takes over. A request whose deadline is later than its lease
/// can still be waiting for inventory then: it writes nothing, and answers with the order's present state.
pub(super) fn lease_ms(caller: &Caller) -> i64 {
    let remaining = i64::try_from(caller.context.deadline.remaining().as_millis()).unwrap_or(i64::MAX);
    remaining.saturating_add(2_000).min(LEASE_MS)
}
