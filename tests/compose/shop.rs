//! Clients of the stack: an operator who delivers stock, and customers who place orders over the published ports.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use local::Service;
use serde_json::{Value, json};
use testkit::http::Unanswered;
use testkit::{Client, Reply, RequestLog, eventually};
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use crate::checked::side;
use crate::stack::Stack;

/// Longest time until a command gets an answer below 500, and until an order is decided. It is longer than any fault of
/// these tests, also on a busy machine.
pub(crate) const DECIDED_WITHIN: Duration = Duration::from_secs(90);

/// Pause of a client before it repeats a command that was refused with 500 or above.
const RETRY_PAUSE: Duration = Duration::from_millis(200);

/// The item for sale.
const SKU: &str = "85123A";
/// Stock of the item at the start: more than all tests sell.
const DELIVERED: i64 = 100_000;

/// Answer to one attempt of a command.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) sent_at: Instant,
    pub(crate) answered_at: Instant,
    pub(crate) status: u16,
    /// The whole reply, for the message of a failed test.
    pub(crate) reply: String,
}

/// A customer's plan for an order once it is reserved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Plan {
    Confirm,
    Cancel,
    KeepReserved,
}

/// Clients of both services, their answers, and their decided orders.
#[derive(Debug)]
pub(crate) struct Shop {
    customer: Client,
    other: Client,
    operator: Client,
    operator_token: String,
    log: RequestLog,
    answers: Mutex<Vec<Answer>>,
    decided: Mutex<Vec<DecidedOrder>>,
}

/// A decided order, as its customer knows it.
#[derive(Debug, Clone)]
struct DecidedOrder {
    id: String,
    quantity: i64,
    plan: Plan,
}

impl Shop {
    /// Gets the tokens as docs/compose.md says, and creates the item with its stock.
    pub(crate) async fn open(stack: &Stack) -> Self {
        let log = RequestLog::default();
        let client = |service, token: &str, principal: &str| {
            Client::new(&stack.url(service)).token(token).logged(&log, side(service), principal)
        };
        let operator = token(stack, "operator").await;
        let shop = Self {
            customer: client(Service::Order, &token(stack, "client").await, "client"),
            other: client(Service::Order, &token(stack, "client2").await, "client2"),
            operator: client(Service::Inventory, &operator, "operator"),
            operator_token: operator,
            log: log.clone(),
            answers: Mutex::default(),
            decided: Mutex::default(),
        };
        let item = json!({"sku": SKU, "name": "White hanging heart", "on_hand": DELIVERED});
        shop.operator.post("/v1/items").json(&item).send().await.unwrap().expect(201);
        shop
    }

    /// All requests with their answers.
    pub(crate) fn log(&self) -> &RequestLog {
        &self.log
    }

    /// The operator's token.
    pub(crate) fn operator_token(&self) -> &str {
        &self.operator_token
    }

    /// A second client of the order service.
    pub(crate) fn other(&self) -> &Client {
        &self.other
    }

    /// The answers to commands so far, in the order in which they came.
    pub(crate) fn answers(&self) -> Vec<Answer> {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Places an order, waits until it is reserved, executes the customer's plan, and waits until that is decided.
    pub(crate) async fn buy(&self, quantity: i64, plan: Plan) -> String {
        let placed = self.command("/v1/orders", Some(&basket(quantity))).await;
        assert!(matches!(placed.status.as_u16(), 201 | 202), "{placed}");
        let id = placed.json()["id"].as_str().unwrap().to_owned();
        self.wait_for_status(&id, "reserved").await;
        let wanted = match plan {
            Plan::Confirm => Some(("confirm", "confirmed")),
            Plan::Cancel => Some(("cancel", "cancelled")),
            Plan::KeepReserved => None,
        };
        if let Some((command, state)) = wanted {
            let reply = self.command(&format!("/v1/orders/{id}/{command}"), None).await;
            assert!(matches!(reply.status.as_u16(), 200 | 202), "{reply}");
            self.wait_for_status(&id, state).await;
        }
        self.record(DecidedOrder { id: id.clone(), quantity, plan });
        id
    }

    /// Sends an order once and does not repeat it. A refused order must not exist; the check of the stock shows that.
    pub(crate) async fn place_once(&self, quantity: i64) {
        let key = format!("compose-{}", Uuid::new_v4());
        let placed = self.attempt("/v1/orders", Some(&basket(quantity)), &key).await.unwrap();
        if let Some(id) = placed.json()["id"].as_str() {
            self.record(DecidedOrder { id: id.to_owned(), quantity, plan: Plan::KeepReserved });
        }
    }

    fn record(&self, order: DecidedOrder) {
        self.decided.lock().unwrap_or_else(PoisonError::into_inner).push(order);
    }

    /// Sends a command, and repeats it with the same key until its status is below 500.
    async fn command(&self, path: &str, body: Option<&Value>) -> Reply {
        let key = format!("compose-{}", Uuid::new_v4());
        let first = Instant::now();
        loop {
            let last = match self.attempt(path, body, &key).await {
                Ok(reply) if reply.status.as_u16() < 500 => return reply,
                Ok(refusal) => refusal.to_string(),
                // An idle connection may be closed as the request is sent. The outcome is unknown then.
                Err(unanswered) => unanswered.to_string(),
            };
            assert!(
                first.elapsed() < DECIDED_WITHIN,
                "{path} got no answer below 500 within {DECIDED_WITHIN:?}: {last}"
            );
            sleep(RETRY_PAUSE).await;
        }
    }

    /// Sends a command once.
    ///
    /// An answer of 500 or above must name its outcome, not executed or unknown. The check of the history shows later
    /// whether the outcome was true.
    async fn attempt(&self, path: &str, body: Option<&Value>, key: &str) -> Result<Reply, Unanswered> {
        let call = self.customer.post(path).key(key);
        let call = match body {
            Some(body) => call.json(body),
            None => call,
        };
        let sent_at = Instant::now();
        let reply = call.send().await?;
        let status = reply.status.as_u16();
        assert!(
            status < 500 || matches!(reply.header("x-outcome"), "not-executed" | "unknown"),
            "{path}: {reply}"
        );
        let answer = Answer { sent_at, answered_at: Instant::now(), status, reply: reply.to_string() };
        self.answers.lock().unwrap_or_else(PoisonError::into_inner).push(answer);
        Ok(reply)
    }

    async fn wait_for_status(&self, id: &str, state: &str) {
        eventually(&format!("order {id} is {state}"), DECIDED_WITHIN, || async {
            let order = self.customer.get(&format!("/v1/orders/{id}")).send().await?;
            anyhow::ensure!(order.status == 200 && order.json()["status"] == state, "{order}");
            Ok(())
        })
        .await;
    }

    /// Compares the customers' orders with the item's stock: no order is lost and no stock is invented.
    pub(crate) async fn check_stock(&self) {
        let (mut shipped, mut held) = (0, 0);
        let decided = self.decided.lock().unwrap_or_else(PoisonError::into_inner).clone();
        for DecidedOrder { id, quantity, plan } in decided {
            let order = self.customer.get(&format!("/v1/orders/{id}")).send().await.unwrap().expect(200);
            let state = match plan {
                Plan::Confirm => "confirmed",
                Plan::Cancel => "cancelled",
                Plan::KeepReserved => "reserved",
            };
            assert_eq!(order.json()["status"], state, "{order}");
            match plan {
                Plan::Confirm => shipped += quantity,
                Plan::KeepReserved => held += quantity,
                Plan::Cancel => {}
            }
        }
        let item = self.operator.get(&format!("/v1/items/{SKU}")).send().await.unwrap().expect(200).json();
        let stock = (item["on_hand"].as_i64(), item["held"].as_i64());
        assert_eq!(stock, (Some(DELIVERED - shipped), Some(held)), "{item}");
    }
}

fn basket(quantity: i64) -> Value {
    json!({"customer_id": "17850", "lines": [{"sku": SKU, "quantity": quantity}]})
}

/// The output of `docker compose run --rm -T credentials token NAME`.
async fn token(stack: &Stack, name: &str) -> String {
    let token = stack.compose(&["run", "--rm", "-T", "credentials", "token", name]).await.unwrap();
    token.trim().to_owned()
}
