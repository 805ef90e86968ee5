//! Placing an order. The order is committed before inventory is asked.

use std::sync::Arc;

use inventory_api::{Line, ReserveRequest};
use journal::entry::payload_hash;
use mainstay::Deadline;
use uuid::Uuid;

use super::advance::derived;
use super::{App, CommandContext, CommandError, CommandResult, IntentCommitted};
use crate::domain::PLACE;
use crate::domain::decisions::Place;

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
        command: CommandContext,
        new: NewOrder,
        committed: IntentCommitted,
    ) -> Result<CommandResult, CommandError> {
        let id = Uuid::now_v7();
        let deadline = command.driver.context.deadline;
        let intent = Place {
            customer_id: new.customer_id,
            lines: new.lines,
            reservation_id: derived(id, "reservation"),
            hold_seconds: self.hold_seconds,
            deadline_left_ms: millis_left(deadline),
            if_unknown: Place::IF_UNKNOWN.into(),
        };
        let mut facts = command.driver.facts(PLACE, command.driver.context.attempt);
        facts.payload_hash = Some(payload_hash(&ReserveRequest {
            reservation_id: intent.reservation_id,
            order_id: id,
            lines: Arc::clone(&intent.lines),
            hold_seconds: intent.hold_seconds,
        }));
        let key = command.claim(PLACE, id);
        let Some(order) = self.store.create(&intent, key, deadline, facts).await? else {
            return self.repeat(&command, PLACE).await;
        };
        journal::meters::count_entry(order.status);
        // A send fails when the client has left. The order advances all the same.
        let _ = committed.send(Arc::clone(&order));
        Ok(self.finish(&command, order, PLACE).await)
    }
}

/// Time that is left until `deadline`, in milliseconds.
pub(super) fn millis_left(deadline: Deadline) -> u64 {
    u64::try_from(deadline.remaining().as_millis()).unwrap_or(u64::MAX)
}
