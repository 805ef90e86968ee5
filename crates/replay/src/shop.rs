//! A customer's requests. Each has its own key and is repeated under it until it has a final answer: a 202 is
//! followed at its `Location`, and an unknown outcome is sent again under the same key.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Response, StatusCode, header};
use inventory_api::{CreateItem, Line, Receipt, item_path};
use local::{Secret, Service};
use mainstay::random::Random;
use mainstay::{CallError, Problem, classify};
use order_service::app::OrderView;
use order_service::domain::Status;
use order_service::http::PlaceOrder;
use serde::Serialize;
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use crate::client::{Client, refusal};
use crate::log::RequestLog;
use crate::tally::Tally;

/// The time that a customer waits for one answer; the services' own default is 2 s.
const CUSTOMERS_WAIT: Duration = Duration::from_secs(5);
/// The time without a final answer after which a request is given up and counted as failed.
const GIVE_UP_AFTER: Duration = Duration::from_mins(2);
/// The wait before a repeat, where the service does not give one.
const AGAIN_AFTER: Duration = Duration::from_millis(250);
/// The longest wait before a repeat, also where the service asks for more: a replay must notice soon when a service
/// recovers.
const AGAIN_AT_MOST: Duration = Duration::from_secs(1);

/// The clients, limits and counters of a customer's requests.
#[derive(Debug, Clone)]
pub struct Shop {
    order: Client,
    /// Inventory's client, with an operator's token: customers do not create items.
    inventory: Client,
    pub tally: Arc<Tally>,
    /// The requests and their answers, for the checker; `None` keeps none.
    pub log: Option<RequestLog>,
    /// The time without a final answer after which a request is given up.
    patience: Duration,
    random: Random,
}

/// The result of a command on an order.
#[derive(Debug)]
pub(crate) enum CommandResult {
    /// The order, decided.
    Order(OrderView),
    /// Finally refused.
    Refused,
}

/// A request without a final answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum GivenUp {
    #[error("{what}: {why}")]
    Refused { what: String, why: String },
    #[error("{what}: no final answer within {} s; the last was: {last}", within.as_secs())]
    Patience { what: String, within: Duration, last: String },
}

/// The time at which a request was due, and its phase.
#[derive(Debug, Clone, Copy)]
pub(crate) struct DueTime {
    pub(crate) at: Instant,
    pub(crate) phase: usize,
}

impl Shop {
    /// A shop whose customers wait some seconds for an answer. Each service is given by its URL and a token: a client's for
    /// orders, an operator's for inventory.
    pub fn new(
        (order, client): (&str, &Secret),
        (inventory, operator): (&str, &Secret),
        tally: Arc<Tally>,
    ) -> anyhow::Result<Self> {
        Ok(Self {
            order: Client::for_customers("order", order, client, CUSTOMERS_WAIT)?,
            inventory: Client::for_customers("inventory", inventory, operator, CUSTOMERS_WAIT)?,
            tally,
            log: None,
            patience: GIVE_UP_AFTER,
            random: Random::from_entropy(),
        })
    }

    pub(crate) async fn place(
        &self,
        due: DueTime,
        key: &str,
        customer: &str,
        lines: &[Line],
    ) -> Result<CommandResult, GivenUp> {
        let body = json(&PlaceOrder { customer_id: customer.to_owned(), lines: lines.to_vec() });
        let settled = |status| !matches!(status, Status::Reserving | Status::ReserveUnknown);
        let ended = self.command("/v1/orders", key, body, Some(due), settled).await;
        self.tally.decided(due.phase, due.at.elapsed());
        ended
    }

    pub(crate) async fn confirm(&self, key: &str, order: Uuid) -> Result<CommandResult, GivenUp> {
        let settled = |status: Status| status.is_terminal();
        self.command(&format!("/v1/orders/{order}/confirm"), key, Bytes::new(), None, settled).await
    }

    pub(crate) async fn cancel(&self, key: &str, order: Uuid) -> Result<CommandResult, GivenUp> {
        let settled = |status: Status| status.is_terminal();
        self.command(&format!("/v1/orders/{order}/cancel"), key, Bytes::new(), None, settled).await
    }

    /// Creates an item; `false` when it exists already.
    pub(crate) async fn create(&self, key: &str, item: &CreateItem) -> Result<bool, GivenUp> {
        let reply = self.answer(Service::Inventory, "/v1/items", key, json(item), None).await?;
        match reply.status() {
            status if status.is_success() => Ok(true),
            StatusCode::CONFLICT => Ok(false),
            _ => Err(given_up("creating an item", &reply)),
        }
    }

    pub(crate) async fn receive(&self, key: &str, sku: &str, quantity: i64) -> Result<(), GivenUp> {
        let path = format!("{}/receipts", item_path(sku));
        let reply = self.answer(Service::Inventory, &path, key, json(&Receipt { quantity }), None).await?;
        if reply.status().is_success() { Ok(()) } else { Err(given_up("receiving stock", &reply)) }
    }

    async fn command(
        &self,
        path: &str,
        key: &str,
        body: Bytes,
        due: Option<DueTime>,
        is_settled: impl Fn(Status) -> bool,
    ) -> Result<CommandResult, GivenUp> {
        let reply = self.answer(Service::Order, path, key, body, due).await?;
        if !reply.status().is_success() {
            return match serde_json::from_slice::<Problem>(reply.body()) {
                Ok(problem) if is_verdict(&problem) => {
                    let order = problem.members.get("order_id").and_then(|id| id.as_str()?.parse().ok());
                    self.tally.refused(order);
                    Ok(CommandResult::Refused)
                }
                Ok(_) | Err(_) => Err(given_up(path, &reply)),
            };
        }
        let order: OrderView = serde_json::from_slice(reply.body())
            .map_err(|error| GivenUp::Refused { what: path.to_owned(), why: error.to_string() })?;
        if reply.status() != StatusCode::ACCEPTED || order.status.known().is_some_and(&is_settled) {
            return Ok(CommandResult::Order(order));
        }
        self.tally.accepted(Some(order.id));
        let location = reply.headers().get(header::LOCATION).and_then(|value| value.to_str().ok());
        let location = location.map_or_else(|| format!("/v1/orders/{}", order.id), str::to_owned);
        let decided = self.follow(&location, pause(classify::retry_after(reply.headers())), is_settled).await;
        self.tally.resolved();
        let order = decided?;
        Ok(match order.status.known() {
            Some(Status::Rejected) => CommandResult::Refused,
            _ => CommandResult::Order(order),
        })
    }

    /// Reads an order until it is decided.
    async fn follow(
        &self,
        location: &str,
        every: Duration,
        is_settled: impl Fn(Status) -> bool,
    ) -> Result<OrderView, GivenUp> {
        let began = Instant::now();
        let mut last = "no answer".to_owned();
        while began.elapsed() < self.patience {
            // Half of the wait is random, so that customers who began to wait together do not ask together.
            sleep(every / 2 + self.random.up_to(every / 2)).await;
            match self.order.call(Method::GET, location, None, Bytes::new()).await {
                Ok(reply) if reply.status() == StatusCode::OK => {
                    match serde_json::from_slice::<OrderView>(reply.body()) {
                        Ok(order) if order.status.known().is_some_and(&is_settled) => return Ok(order),
                        Ok(order) => last = format!("{:?}", order.status),
                        Err(error) => last = error.to_string(),
                    }
                }
                Ok(reply) => last = refusal(&reply),
                Err(error) => last = error.to_string(),
            }
        }
        Err(GivenUp::Patience { what: location.to_owned(), within: self.patience, last })
    }

    fn client(&self, service: Service) -> &Client {
        match service {
            Service::Order => &self.order,
            Service::Inventory => &self.inventory,
        }
    }

    /// Sends a request until it gets a 202, or an answer that a repeat would not change.
    async fn answer(
        &self,
        service: Service,
        path: &str,
        key: &str,
        body: Bytes,
        due: Option<DueTime>,
    ) -> Result<Response<Bytes>, GivenUp> {
        let began = Instant::now();
        let mut wait = AGAIN_AFTER;
        let mut first = due;
        loop {
            let answer = self.client(service).call(Method::POST, path, Some(key), body.clone()).await;
            if let Some(log) = &self.log {
                log.push(service, key, &answer);
            }
            if let Some(due) = first.take() {
                self.tally.answered(due.phase, due.at.elapsed());
            }
            let outcome = classify::outcome(&answer);
            let last = match answer {
                Ok(reply) if is_final(&reply) => return Ok(reply),
                Ok(reply) => {
                    wait = classify::retry_after(reply.headers()).map_or(wait, |asked| pause(Some(asked)));
                    refusal(&reply)
                }
                Err(error @ CallError::InvalidRequest { .. }) => {
                    return Err(GivenUp::Refused { what: path.to_owned(), why: error.to_string() });
                }
                Err(error) => error.to_string(),
            };
            if began.elapsed() + wait > self.patience {
                return Err(GivenUp::Patience { what: path.to_owned(), within: self.patience, last });
            }
            self.tally.repeated(outcome);
            sleep(wait / 2 + self.random.up_to(wait / 2)).await;
            wait = (wait * 2).min(AGAIN_AT_MOST);
        }
    }
}

/// The service's `Retry-After`, within this module's bounds.
fn pause(asked: Option<Duration>) -> Duration {
    asked.unwrap_or(AGAIN_AFTER).clamp(AGAIN_AFTER, AGAIN_AT_MOST)
}

/// Returns whether a repeat would get the same answer, or the next step is to follow a 202.
fn is_final(reply: &Response<Bytes>) -> bool {
    match reply.status().as_u16() {
        409 | 410 | 422 => {
            serde_json::from_slice::<Problem>(reply.body()).is_ok_and(|problem| !problem.retryable)
        }
        429 | 500..=599 | 408 => false,
        _ => true,
    }
}

/// Returns whether a refusal is about the order, not about the request.
fn is_verdict(problem: &Problem) -> bool {
    matches!(
        problem.name(),
        "insufficient-stock"
            | "unknown-sku"
            | "reservation-expired"
            | "reservation-voided"
            | "order-cancelled"
            | "illegal-transition"
    )
}

fn given_up(what: &str, reply: &Response<Bytes>) -> GivenUp {
    GivenUp::Refused { what: what.to_owned(), why: format!("{} {}", reply.status(), refusal(reply)) }
}

fn json<T: Serialize>(body: &T) -> Bytes {
    serde_json::to_vec(body).expect("wire types hold only strings, integers and lists").into()
}
