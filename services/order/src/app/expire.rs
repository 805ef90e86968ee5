//! Expiry of orders: when a hold should have ended, inventory is asked, and its answer decides.

use std::sync::Arc;

use journal::DatabaseError;
use time::format_description::well_known::Rfc3339;

use super::advance::{Advanced, Driver, subject};
use super::{App, meters};
use crate::domain::decisions::{self, HoldDecision, InventoryAnswer};
use crate::domain::retry::Retry;
use crate::store::{EntryFacts, Order};

impl App {
    /// Asks inventory for the reservation of a reserved order, and expires the order if inventory says that the reservation
    /// has expired.
    pub async fn expire(&self, driver: &Driver, order: Arc<Order>) -> Result<Advanced, DatabaseError> {
        let context = self.call_context(driver, &order, "reservation");
        let call = self.inventory.reservation(context, subject(&order)).await; // no transaction is open here
        self.adopt_clock(&call);
        let expires_at = order.expires_at.and_then(|t| t.format(&Rfc3339).ok());
        let decision = decisions::hold(order.status, expires_at, call.answer);
        let retry = self.next_try(driver, &order, "reservation", decision.inconclusive(), call.blame);
        match decision {
            HoldDecision::Expire(rule) => {
                let causation_id = call.entry_id.or(Some(order.head_entry));
                let facts = EntryFacts { causation_id, ..driver.facts("expire", 1) };
                self.record(order, &rule, &InventoryAnswer::HoldExpired, facts, retry).await
            }
            HoldDecision::StillHeld => {
                let why = "inventory says that the reservation is Held";
                self.retry_later(driver, order, retry, why).await
            }
            HoldDecision::Wait(why) => self.retry_later(driver, order, retry, &why).await,
            HoldDecision::Mismatch(reservation) => self.mismatch(driver, order, reservation).await,
        }
    }

    /// Puts back a reserved order whose reservation ended without it: released or confirmed by another holder of a token, or
    /// lost with a restore of inventory. The log and a counter report it to the operator.
    async fn mismatch(
        &self,
        driver: &Driver,
        order: Arc<Order>,
        reservation: &'static str,
    ) -> Result<Advanced, DatabaseError> {
        meters::mismatch(reservation).increment(1);
        let tries = order.tries.unsigned_abs() + 1;
        if tries.is_power_of_two() {
            let correlation_id = &*driver.cause.correlation_id;
            tracing::error!(
                order_id = %order.id, correlation_id, reservation, tries,
                "sweep: reservation of a reserved order ended without the order; order stays reserved"
            );
        }
        let why = format!("the reservation is {reservation} at inventory, and the order is reserved");
        let retry = Retry::of_mismatch(order.tries, order.failed_alone);
        self.retry_later(driver, order, retry, &why).await
    }
}
