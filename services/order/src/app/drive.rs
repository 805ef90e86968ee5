//! Advances an order: asks inventory for the step that the order's status calls for, and records the answer. Requests
//! and the reconciler both use this path.
//!
//! The call is outside every transaction. The write after it is guarded by the version and the epoch that the driver
//! began with, so a driver that was overtaken, by a cancel or by another replica, writes nothing.

use std::sync::Arc;
use std::time::Duration;

use inventory_api::{Answer, Blame, CallContext, Line, Refusal, Reservation, ReserveRequest, Subject};
use journal::{Cause, DatabaseError, Decided, Draft, Step as TxStep};
use mainstay::RequestContext;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use uuid::Uuid;

use super::requests::{Fruitless, Requests};
use super::{App, Caller, Done, Refused, replies};
use crate::domain::rules::{Answered, Reply};
use crate::domain::status::Step;
use crate::store::orders::NextAttempt;
use crate::store::{Order, orders, work};

/// Time kept back from the call's deadline for recording the outcome: two or three round trips to the database, with
/// room.
const RECORDING: Duration = Duration::from_millis(100);

/// Result of an attempt to advance an order.
#[derive(Debug, Clone, PartialEq)]
pub enum Driven {
    /// The order has a new status.
    Moved(Arc<Order>),
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

/// The UUIDv5 of `name` in the order's own namespace. Equal arguments give equal ids.
pub fn derived(order: Uuid, name: &str) -> Uuid {
    Uuid::new_v5(&order, name.as_bytes())
}

/// The reserve request of an order. Every send has the same body, and the journal has the hash of that body.
pub(super) fn request(
    order_id: Uuid,
    reservation_id: Uuid,
    lines: &Arc<[Line]>,
    hold_seconds: i64,
) -> ReserveRequest {
    ReserveRequest { reservation_id, order_id, lines: Arc::clone(lines), hold_seconds }
}

/// The reservation of `order`, for the calls that name it.
pub(super) fn subject(order: &Order) -> Subject {
    Subject { reservation_id: order.reservation_id, order_id: order.id, lines: Arc::clone(&order.lines) }
}

/// No step of an order is tried under a second key: `attempt` would advance only after a definite answer that
/// asks for another attempt, and inventory gives none.
const ATTEMPT: u32 = 1;

impl App {
    /// Advances the order of a request, and gives the result of the request's `command`.
    pub(super) async fn drive_for(
        &self,
        caller: &Caller,
        order: Arc<Order>,
        command: &'static str,
    ) -> Result<Done, Refused> {
        let driver = Driver { context: caller.context.clone(), cause: caller.cause.clone() };
        match self.drive(&driver, Arc::clone(&order)).await {
            Ok((Driven::Moved(_), replies)) if replies.iter().any(|(c, _)| *c == command) => {
                let reply = replies.into_iter().find(|(c, _)| *c == command).map(|(_, r)| r);
                reply.map(Done::Final).ok_or(Refused::NotFound)
            }
            Ok((Driven::Moved(order) | Driven::Waiting(order), _)) => Ok(Done::Pending(order)),
            // A failed read of the key refuses nothing: the order itself is known, so the reply is 202.
            Ok((Driven::Overtaken, _)) => Ok(self.settled(caller).await.unwrap_or_else(|error| {
                tracing::warn!(order_id = %order.id, %error, "order overtaken and its present state not read; reply is 202");
                Done::Pending(order)
            })),
            // The answer is not recorded. The reconciler asks again when the lease ends.
            Err(error) => {
                tracing::warn!(order_id = %order.id, %error, "order outcome not recorded; the reconciler asks again when the lease ends");
                Ok(Done::Pending(order))
            }
        }
    }

    /// Asks inventory for the step that the order's status calls for, and records the answer. Gives the replies that were
    /// stored, by command.
    pub async fn drive(
        &self,
        driver: &Driver,
        order: Arc<Order>,
    ) -> Result<(Driven, Vec<(&'static str, journal::StoredReply)>), DatabaseError> {
        let Some(step) = order.status.step() else { return Ok((Driven::Waiting(order), Vec::new())) };
        self.clocks.adopt_head(order.head_clock);
        let call = self.ask(driver, &order, step).await;
        if let Some(time) = call.clock.as_deref().and_then(|t| t.parse().ok()) {
            self.clocks.adopt_peer(time);
        }
        let reply = match verdict(step, call.answer) {
            Ok(reply) => reply,
            Err(why) => {
                undecided(driver, &order, step.as_str(), &why);
                let retry = self.retry(&order, call.blame);
                return self.put_back(driver, order, retry, &why).await.map(|driven| (driven, Vec::new()));
            }
        };
        let retry = if let Reply::Nothing { seen } = &reply {
            undecided(driver, &order, step.as_str(), seen);
            self.retry(&order, call.blame)
        } else {
            self.served.answered();
            Retry { failed_alone: 0, backoff_ms: backoff_ms(order.tries, 0) }
        };
        let answered = Answered { state: order.status, reply };
        if answered.leads_to().is_none() {
            let why = match &answered.reply {
                Reply::Nothing { seen } => seen.clone(),
                reply => format!("{reply:?}"),
            };
            return self.put_back(driver, order, retry, &why).await.map(|driven| (driven, Vec::new()));
        }
        self.record(driver, order, step, &answered, call.entry_id, retry).await
    }

    /// The back-off of an order whose try decided nothing. It grows beyond a second only for an order that fails while
    /// others are served, so that orders that failed in an outage are resolved within seconds of its end.
    pub(super) fn retry(&self, order: &Order, blame: Blame) -> Retry {
        let others_are_served = self.served.failed();
        let is_alone = match blame {
            Blame::Peer => false,
            Blame::Request => others_are_served && order.tries >= QUICK_TRIES,
        };
        let failed_alone = order.failed_alone.saturating_add(i32::from(is_alone));
        let grown = if is_alone { failed_alone } else { 0 };
        Retry { failed_alone, backoff_ms: backoff_ms(order.tries, grown) }
    }

    async fn ask(&self, driver: &Driver, order: &Order, step: Step) -> inventory_api::Call<Reservation> {
        let mut request = driver.context.clone();
        request.deadline = request.deadline.less(RECORDING);
        let context = CallContext {
            request,
            key: derived(order.id, &format!("{}:{ATTEMPT}", step.as_str())),
            causation_id: Some(order.head_entry),
            clock: self.journal.clock().tick().to_string(),
            is_repeat: order.tries > 0,
        };
        match step {
            Step::Reserve => {
                let body = self::request(order.id, order.reservation_id, &order.lines, order.hold_seconds);
                self.inventory.reserve(context, &body).await
            }
            Step::Confirm => self.inventory.confirm(context, subject(order)).await,
            Step::Release => self.inventory.release(context, subject(order)).await,
        }
    }

    async fn record(
        &self,
        driver: &Driver,
        order: Arc<Order>,
        step: Step,
        answered: &Answered,
        entry_id: Option<Uuid>,
        retry: Retry,
    ) -> Result<(Driven, Vec<(&'static str, journal::StoredReply)>), DatabaseError> {
        let (status, decided) = Decided::by(answered);
        let sealed = self.journal.seal(Draft {
            aggregate_id: order.id,
            head: Some(order.head()),
            command: step.as_str(),
            cause: &driver.cause,
            causation_id: entry_id.or(Some(order.head_entry)),
            decided,
            attempt: ATTEMPT,
            evidence: chassis::evidence(&driver.context.trail, Some(order.tries + 1)),
            payload_hash: None,
        });
        let expires_at = match &answered.reply {
            Reply::Held { expires_at } => OffsetDateTime::parse(expires_at, &Rfc3339).ok(),
            _ => order.expires_at,
        };
        let unresolved = status.is_unresolved();
        let moved = Arc::new(Order {
            expires_at,
            in_flight: false,
            tries: if unresolved { order.tries + 1 } else { 0 },
            failed_alone: if unresolved { retry.failed_alone } else { 0 },
            ..order.after(status, &sealed)
        });
        let due = if unresolved { NextAttempt::Backoff(retry.backoff_ms) } else { NextAttempt::AtRest };
        let replies = replies::of_transition(&moved, &answered.reply, &driver.cause.correlation_id);
        let id = order.id;
        let advance = Arc::new(orders::Advance { from: order, moved, due, sealed, replies });
        let written = self.advancing.write(None, Arc::clone(&advance)).await;
        let orders::Advance { moved, replies, .. } = Arc::unwrap_or_clone(advance);
        let is_written = match written {
            // COMMIT outcome unknown: it succeeded if the row's head is our entry.
            Err(DatabaseError::Unknown(_)) => {
                let now = self
                    .database
                    .read(None, id, |connection, id| Box::pin(orders::get(connection, *id, None)))
                    .await?;
                now.is_some_and(|now| now.head_entry == moved.head_entry)
            }
            known => known?,
        };
        if unresolved {
            self.nudge.notify_one();
        }
        metrics::counter!("mainstay_orders_total", "to" => journal::State::as_str(status)).increment(1);
        Ok(if is_written { (Driven::Moved(moved), replies) } else { (Driven::Overtaken, Vec::new()) })
    }

    /// Ends the lease without a transition, because no definite answer came. The order is tried again after a back-off.
    pub(super) async fn put_back(
        &self,
        driver: &Driver,
        order: Arc<Order>,
        retry: Retry,
        why: &str,
    ) -> Result<Driven, DatabaseError> {
        let fruitless = Fruitless::new(Requests::counted(&driver.context.trail.snapshot()), why);
        let ours = self
            .database
            .alone(None, (&order, retry, &fruitless), |connection, &(order, retry, fruitless)| {
                let Retry { backoff_ms, failed_alone } = retry;
                Box::pin(async move {
                    let ours = work::put_back(connection, order, backoff_ms, failed_alone, fruitless).await?;
                    Ok(TxStep::Commit(ours))
                })
            })
            .await?;
        let waiting = || Order { in_flight: false, ..Arc::unwrap_or_clone(order) };
        Ok(if ours { Driven::Waiting(Arc::new(waiting())) } else { Driven::Overtaken })
    }
}

/// Logs why a try decided nothing; the journal has the reason of the first try alone. Logs the 1st, 2nd, 4th, 8th … try
/// of an order, so that the log of a long outage stays short.
pub(super) fn undecided(driver: &Driver, order: &Order, step: &str, why: &str) {
    let tries = order.tries.unsigned_abs() + 1;
    if tries.is_power_of_two() {
        let correlation_id = &*driver.cause.correlation_id;
        tracing::warn!(order_id = %order.id, correlation_id, step, tries, why, "inventory call inconclusive; retry scheduled");
    }
}

/// Maps inventory's answer to the input of the decision.
///
/// # Errors
/// The call was not executed, so it decides nothing: the order's state is known as well as before.
fn verdict(step: Step, answer: Answer<Reservation>) -> Result<Reply, String> {
    let nothing = |seen: String| Ok(Reply::Nothing { seen });
    match (step, answer) {
        (_, Answer::NotExecuted(why)) => Err(why),
        (_, Answer::Unknown(why)) => nothing(why),
        (Step::Reserve, Answer::Applied(reservation)) => {
            match reservation.expires_at.map(|t| t.format(&Rfc3339)) {
                Some(Ok(expires_at)) => Ok(Reply::Held { expires_at }),
                _ => nothing("a reservation that does not say when it expires".to_owned()),
            }
        }
        (Step::Confirm, Answer::Applied(_)) => Ok(Reply::Shipped),
        (Step::Release, Answer::Applied(_)) => Ok(Reply::Released),
        (Step::Reserve, Answer::Refused(Refusal::InsufficientStock(short_lines))) => {
            Ok(Reply::InsufficientStock { short_lines })
        }
        (Step::Reserve, Answer::Refused(Refusal::UnknownSku(skus))) => Ok(Reply::UnknownSku { skus }),
        (Step::Reserve, Answer::Refused(Refusal::ReservationVoided)) => Ok(Reply::ReservationVoided),
        (Step::Confirm, Answer::Refused(Refusal::ReservationExpired)) => Ok(Reply::HoldExpired),
        (_, Answer::Refused(other)) => nothing(format!("{other:?}, which is no answer to {}", step.as_str())),
    }
}

/// The next try of an order whose try decided nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Retry {
    /// New value of [`Order::failed_alone`].
    failed_alone: i32,
    /// Back-off, in milliseconds.
    backoff_ms: i64,
}

impl Retry {
    /// For a reserved order whose reservation ended without it: asking again seldom helps, so the wait grows to minutes.
    pub(super) fn of_mismatch(order: &Order) -> Self {
        let doubled = 1_000_i64 << order.tries.clamp(0, 9);
        Self { failed_alone: order.failed_alone, backoff_ms: doubled.min(MISMATCH_MS) }
    }
}

/// The longest wait, in milliseconds, of a reserved order whose reservation ended without it.
const MISMATCH_MS: i64 = 300_000;

/// Tries after which the wait is a second, and from which on an order can be told to fail by itself.
const QUICK_TRIES: i32 = 4;

/// The longest back-off of an order that fails while others are served, in milliseconds.
const LONGEST_MS: i64 = 30_000;

/// The back-off in milliseconds: 100, 200, 400 … at most 1,000 ms, so that no order waits longer than a second once
/// inventory is back. For an order that failed alone `failed_alone` times: 1, 2, 4 … at most 30 s. The upper half is
/// random, so that orders that failed together are not tried again together.
fn backoff_ms(tries: i32, failed_alone: i32) -> i64 {
    let doubled = |ms: i64, times: i32| ms << u32::try_from(times.clamp(0, 5)).unwrap_or(0);
    let full = match failed_alone {
        ..=0 => doubled(100, tries).min(1_000),
        alone => doubled(1_000, alone - 1).min(LONGEST_MS),
    };
    let random = i64::from(Uuid::new_v4().as_bytes()[0]);
    full / 2 + full / 2 * random / 255
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_back_off_grows_beyond_a_second_only_for_an_order_that_fails_alone() {
        let bounds = |full: i64| full / 2..=full;
        for (tries, alone, full) in [
            (0, 0, 100),
            (3, 0, 800),
            (4, 0, 1_000),
            (1_000, 0, 1_000),
            (9, 1, 1_000),
            (9, 2, 2_000),
            (9, 5, 16_000),
        ] {
            assert!(bounds(full).contains(&backoff_ms(tries, alone)), "{tries} {alone}");
        }
        assert!(bounds(LONGEST_MS).contains(&backoff_ms(i32::MAX, i32::MAX)));
    }
}
