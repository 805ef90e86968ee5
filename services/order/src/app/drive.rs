//! The one path by which an order gets on: ask inventory what its state calls for, and record what is known
//! afterwards. Requests and the reconciler both come through here.
//!
//! The call is outside every transaction. What is written afterwards names the version and the epoch that the
//! driver began with, so a driver that was overtaken, by a cancel or by another replica, writes nothing.

use std::sync::Arc;
use std::time::Duration;

use inventory_api::{Answer, CallContext, Line, Refusal, Reservation, ReserveRequest};
use journal::{Cause, DatabaseError, Decided, Draft, Step as TxStep};
use mainstay::RequestContext;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use uuid::Uuid;

use super::requests::{Fruitless, Requests};
use super::{App, Caller, Done, Refused, replies};
use crate::domain::rules::{Answered, Reply};
use crate::domain::status::Step;
use crate::store::orders::Due;
use crate::store::{Order, orders, work};

/// Kept back from the call for recording its outcome: two or three round trips to the database, with room.
const RECORDING: Duration = Duration::from_millis(100);

/// How an attempt to get an order on ended.
#[derive(Debug, Clone, PartialEq)]
pub enum Driven {
    /// It moved.
    Moved(Arc<Order>),
    /// Nothing definite was learnt; it will be tried again.
    Waiting(Arc<Order>),
    /// Somebody else has it now.
    Overtaken,
}

/// On whose behalf an order is driven.
#[derive(Debug, Clone)]
pub struct Driver {
    /// Deadline, correlation, trace, decision trail of the calls.
    pub context: RequestContext,
    /// What goes into the journal.
    pub cause: Cause,
}

/// The UUIDv5 of `name` in the order's own namespace: the same whenever it is derived.
pub fn derived(order: Uuid, name: &str) -> Uuid {
    Uuid::new_v5(&order, name.as_bytes())
}

/// What inventory is asked to hold: the same whenever it is sent, and when its hash goes into the journal.
pub(super) fn request(
    order_id: Uuid,
    reservation_id: Uuid,
    lines: &Arc<[Line]>,
    hold_seconds: i64,
) -> ReserveRequest {
    ReserveRequest { reservation_id, order_id, lines: Arc::clone(lines), hold_seconds }
}

/// No step of an order is tried under a second key: `attempt` would advance only after a definite answer that
/// asks for another attempt, and inventory gives none.
const ATTEMPT: u32 = 1;

impl App {
    /// Drives a request's order and answers the request's `command`.
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
            // The order is at hand, so that the key cannot be read now refuses nothing.
            Ok((Driven::Overtaken, _)) => Ok(self.settled(caller).await.unwrap_or_else(|error| {
                tracing::warn!(order_id = %order.id, %error, "the order was taken over, and how it stands could not be read");
                Done::Pending(order)
            })),
            // What was learnt could not be recorded; the lease will end and the reconciler will ask again.
            Err(error) => {
                tracing::warn!(order_id = %order.id, %error, "the outcome could not be recorded; the reconciler will ask again");
                Ok(Done::Pending(order))
            }
        }
    }

    /// Asks inventory what the order's state calls for and records the answer. Gives the replies that were stored.
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
                return self.put_back(driver, order, &why).await.map(|driven| (driven, Vec::new()));
            }
        };
        if let Reply::Nothing { seen } = &reply {
            undecided(driver, &order, step.as_str(), seen);
        }
        let answered = Answered { state: order.status, reply };
        if answered.leads_to().is_none() {
            let why = match &answered.reply {
                Reply::Nothing { seen } => seen.clone(),
                reply => format!("{reply:?}"),
            };
            return self.put_back(driver, order, &why).await.map(|driven| (driven, Vec::new()));
        }
        self.record(driver, order, step, &answered, call.entry_id).await
    }

    async fn ask(&self, driver: &Driver, order: &Order, step: Step) -> inventory_api::Call<Reservation> {
        let mut request = driver.context.clone();
        request.deadline = request.deadline.less(RECORDING);
        let context = CallContext {
            request,
            key: derived(order.id, &format!("{}:{ATTEMPT}", step.as_str())),
            causation_id: Some(order.head_entry),
            clock: self.journal.clock().tick().to_string(),
        };
        match step {
            Step::Reserve => {
                let body = self::request(order.id, order.reservation_id, &order.lines, order.hold_seconds);
                self.inventory.reserve(context, &body).await
            }
            Step::Confirm => self.inventory.confirm(context, order.reservation_id).await,
            Step::Release => self.inventory.release(context, order.reservation_id).await,
        }
    }

    async fn record(
        &self,
        driver: &Driver,
        order: Arc<Order>,
        step: Step,
        answered: &Answered,
        entry_id: Option<Uuid>,
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
            ..order.after(status, &sealed)
        });
        let due = if unresolved { Due::Backoff(backoff_ms(order.tries)) } else { Due::AtRest };
        let replies = replies::of_transition(&moved, &answered.reply, &driver.cause.correlation_id);
        let id = order.id;
        let advance = Arc::new(orders::Advance { from: order, moved, due, sealed, replies });
        let written = self.advancing.write(None, Arc::clone(&advance)).await;
        let orders::Advance { moved, replies, .. } = Arc::unwrap_or_clone(advance);
        let is_written = match written {
            // Ours if the row's head is our entry; somebody else's if it moved on; else not to be found out.
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

    /// Nothing definite was learnt: the order stays as it is and is tried again after a back-off.
    pub(super) async fn put_back(
        &self,
        driver: &Driver,
        order: Arc<Order>,
        why: &str,
    ) -> Result<Driven, DatabaseError> {
        let backoff = backoff_ms(order.tries);
        let fruitless = Fruitless::new(Requests::counted(&driver.context.trail.snapshot()), why);
        let ours = self
            .database
            .alone(None, (&order, backoff, &fruitless), |connection, &(order, backoff, fruitless)| {
                Box::pin(async move {
                    Ok(TxStep::Commit(work::put_back(connection, order, backoff, fruitless).await?))
                })
            })
            .await?;
        let waiting = || Order { in_flight: false, ..Arc::unwrap_or_clone(order) };
        Ok(if ours { Driven::Waiting(Arc::new(waiting())) } else { Driven::Overtaken })
    }
}

/// Says why a try decided nothing, which the journal has only of the first. Told at the 1st, 2nd, 4th, 8th … try of an
/// order: an outage is long, and its log need not be.
pub(super) fn undecided(driver: &Driver, order: &Order, step: &str, why: &str) {
    let tries = order.tries.unsigned_abs() + 1;
    if tries.is_power_of_two() {
        let correlation_id = &*driver.cause.correlation_id;
        tracing::warn!(order_id = %order.id, correlation_id, step, tries, why, "inventory has decided nothing");
    }
}

/// What an answer decides; an error when it decides nothing: the call was not executed, so nothing about the order
/// has become less known than it was.
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

/// 100, 200, 400 … at most 1,000 ms, the upper half of it random: orders that failed together do not come back
/// together, and none waits longer than a second once inventory is back.
fn backoff_ms(tries: i32) -> i64 {
    let full = 100_i64 << u32::try_from(tries.clamp(0, 4)).unwrap_or(0);
    let full = full.min(1_000);
    let random = i64::from(Uuid::new_v4().as_bytes()[0]);
    full / 2 + full / 2 * random / 255
}
