//! Advances an order: asks inventory for the step that the order's status calls for, and records the answer. Requests
//! and the reconciler both use this path.
//!
//! The call is outside every transaction. The write after it is guarded by the version and the epoch that the driver
//! began with, so a driver that was overtaken, by a cancel or by another replica, writes nothing.

use std::sync::Arc;
use std::time::Duration;

use inventory_api::{Blame, Call, CallContext, Reservation, ReserveRequest, Subject};
use journal::{Cause, DatabaseError, Rule};
use mainstay::RequestContext;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use uuid::Uuid;

use super::{App, CommandContext, CommandResult, OrderView, meters, stored_replies};
use crate::domain::Status;
use crate::domain::decisions::{self, Decision, InventoryAnswer};
use crate::domain::retry::{InconclusiveTry, Requests, Retry};
use crate::domain::status::Step;
use crate::store::{EntryFacts, Moved, Order};

/// Time kept back from the call's deadline for recording the outcome: two or three round trips to the database, with
/// room.
const RECORDING: Duration = Duration::from_millis(100);

/// No step of an order is tried under a second key: `attempt` would advance only after a definite answer that
/// asks for another attempt, and inventory gives none.
const ATTEMPT: u32 = 1;

/// Result of an attempt to advance an order.
#[derive(Debug, Clone, PartialEq)]
pub enum Advanced {
    /// The order has a new status.
    Moved(Moved),
    /// No definite answer came; the order will be tried again.
    Waiting(Arc<Order>),
    /// Another driver has the order now.
    Overtaken,
}

/// The request or sweep that advances an order.
#[derive(Debug, Clone)]
pub struct Driver {
    /// Deadline, correlation id, trace and decision trail of the calls.
    pub context: RequestContext,
    /// Principal, key hash, correlation id and trace id for the journal.
    pub cause: Cause,
}

impl Driver {
    /// The facts of an entry of this driver.
    pub(super) fn facts(&self, command: &'static str, attempt: u32) -> EntryFacts<'_> {
        EntryFacts {
            command,
            cause: &self.cause,
            causation_id: None,
            attempt,
            trail: &self.context.trail,
            tries: None,
            payload_hash: None,
        }
    }
}

/// The UUIDv5 of `name` in the order's own namespace. Equal arguments give equal ids.
pub fn derived(order: Uuid, name: &str) -> Uuid {
    Uuid::new_v5(&order, name.as_bytes())
}

impl App {
    /// Advances the order of a request, and gives the result of the request's command `name`.
    pub(super) async fn finish(
        &self,
        command: &CommandContext,
        order: Arc<Order>,
        name: &'static str,
    ) -> CommandResult {
        let pending = |order: &Order| CommandResult::Pending(OrderView::from(order));
        match self.advance(&command.driver, Arc::clone(&order)).await {
            Ok(Advanced::Moved(Moved { order, replies })) => {
                let reply = replies.into_iter().find(|(command, _)| *command == name);
                reply.map_or_else(|| pending(&order), |(_, reply)| CommandResult::Final(reply))
            }
            Ok(Advanced::Waiting(order)) => pending(&order),
            // A failed read of the key refuses nothing: the order itself is known, so the reply is 202.
            Ok(Advanced::Overtaken) => self.settled(command).await.unwrap_or_else(|error| {
                tracing::warn!(order_id = %order.id, %error, "order overtaken and its present state not read; reply is 202");
                pending(&order)
            }),
            Err(error) => {
                tracing::warn!(order_id = %order.id, %error, "order outcome not recorded; the reconciler asks again when the lease ends");
                pending(&order)
            }
        }
    }

    /// Asks inventory for the step that the order's status calls for, and records what its answer decides.
    pub async fn advance(&self, driver: &Driver, order: Arc<Order>) -> Result<Advanced, DatabaseError> {
        let Some(step) = order.status.step() else { return Ok(Advanced::Waiting(order)) };
        let call = self.ask(driver, &order, step).await; // no transaction is open here
        let decision = decisions::answered(order.status, step, call.answer);
        let retry = self.next_try(driver, &order, step.as_str(), decision.inconclusive(), call.blame);
        match decision {
            Decision::Wait(why) => self.retry_later(driver, order, retry, &why).await,
            Decision::Move(answered) => {
                let facts = EntryFacts {
                    causation_id: call.entry_id.or(Some(order.head_entry)),
                    tries: Some(order.tries + 1),
                    ..driver.facts(step.as_str(), ATTEMPT)
                };
                self.record(order, &answered, &answered.answer, facts, retry).await
            }
        }
    }

    /// Calls inventory for `step`, under the same derived key each time.
    async fn ask(&self, driver: &Driver, order: &Order, step: Step) -> Call<Reservation> {
        let mut context = self.call_context(driver, order, &format!("{}:{ATTEMPT}", step.as_str()));
        context.request.deadline = context.request.deadline.less(RECORDING);
        let call = match step {
            Step::Reserve => self.inventory.reserve(context, &reserve_request(order)).await,
            Step::Confirm => self.inventory.confirm(context, subject(order)).await,
            Step::Release => self.inventory.release(context, subject(order)).await,
        };
        self.adopt_clock(&call);
        call
    }

    /// Records the transition that `rule` decided by inventory's `answer`.
    pub(super) async fn record<R: Rule<State = Status>>(
        &self,
        order: Arc<Order>,
        rule: &R,
        answer: &InventoryAnswer,
        facts: EntryFacts<'_>,
        retry: Retry,
    ) -> Result<Advanced, DatabaseError> {
        let expires_at = match answer {
            InventoryAnswer::Held { expires_at } => OffsetDateTime::parse(expires_at, &Rfc3339).ok(),
            _ => None,
        };
        let replies =
            |moved: &Order| stored_replies::of_transition(moved, answer, &facts.cause.correlation_id);
        let from = Arc::clone(&order);
        let Some(moved) = self.store.transition(order, rule, facts, expires_at, retry, replies).await? else {
            return Ok(Advanced::Overtaken);
        };
        let status = moved.order.status;
        if status.is_unresolved() {
            self.nudge.notify_one();
        }
        journal::meters::count_entry(status);
        meters::decided(&from, &moved.order);
        Ok(Advanced::Moved(moved))
    }

    /// Ends the lease without a transition, because no definite answer came. The order is tried again after a back-off.
    pub(super) async fn retry_later(
        &self,
        driver: &Driver,
        order: Arc<Order>,
        retry: Retry,
        why: &str,
    ) -> Result<Advanced, DatabaseError> {
        let last = InconclusiveTry::new(Requests::counted(&driver.context.trail.snapshot()), why);
        if !self.store.retry_later(&order, retry, &last).await? {
            return Ok(Advanced::Overtaken);
        }
        Ok(Advanced::Waiting(Arc::new(Order { in_flight: false, ..Arc::unwrap_or_clone(order) })))
    }

    /// The next try of an order, if it stays unresolved. The back-off grows beyond a second only for an order that fails
    /// while others are served, so that orders that failed in an outage are resolved within seconds of its end.
    ///
    /// A try that decided nothing is logged, because the journal has the reason of the first such try alone. The 1st, 2nd,
    /// 4th, 8th … try of an order is logged, so that the log of a long outage stays short.
    pub(super) fn next_try(
        &self,
        driver: &Driver,
        order: &Order,
        step: &str,
        inconclusive: Option<&str>,
        blame: Blame,
    ) -> Retry {
        let mut failed_beside_others = false;
        if let Some(why) = inconclusive {
            failed_beside_others = self.recent_answers.failed() && blame == Blame::Request;
            let tries = order.tries.unsigned_abs() + 1;
            if tries.is_power_of_two() {
                let correlation_id = &*driver.cause.correlation_id;
                tracing::warn!(order_id = %order.id, correlation_id, step, tries, why, "inventory call inconclusive; retry scheduled");
            }
        } else {
            self.recent_answers.answered();
        }
        let random = self.random.next_u64().to_be_bytes()[0];
        Retry::after(order.tries, order.failed_alone, failed_beside_others, random)
    }

    /// The context of a call about `order`, under the derived key of the name `key`.
    pub(super) fn call_context(&self, driver: &Driver, order: &Order, key: &str) -> CallContext {
        self.clocks.adopt_head(order.head_clock);
        CallContext {
            request: driver.context.clone(),
            key: derived(order.id, key),
            causation_id: Some(order.head_entry),
            clock: self.store.journal().clock().tick().to_string(),
            is_repeat: order.tries > 0,
        }
    }

    pub(super) fn adopt_clock(&self, call: &Call<Reservation>) {
        if let Some(time) = call.clock.as_deref().and_then(|t| t.parse().ok()) {
            self.clocks.adopt_peer(time);
        }
    }
}

/// The reserve request of an order. Every send has the same body, and the journal has the hash of that body.
fn reserve_request(order: &Order) -> ReserveRequest {
    ReserveRequest {
        reservation_id: order.reservation_id,
        order_id: order.id,
        lines: Arc::clone(&order.lines),
        hold_seconds: order.hold_seconds,
    }
}

/// The reservation of `order`, for the calls that name it.
pub(super) fn subject(order: &Order) -> Subject {
    Subject { reservation_id: order.reservation_id, order_id: order.id, lines: Arc::clone(&order.lines) }
}
