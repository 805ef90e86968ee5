//! The stack's clients: an operator who delivers stock, and customers who order it over the published ports.

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

/// Within this a request is answered with something other than a refusal for the moment, and an order decided. Longer
/// than any fault here lasts, on a busy machine too.
pub(crate) const DECIDED_WITHIN: Duration = Duration::from_secs(90);

/// A client that was refused for the moment asks again after this.
const ASK_AGAIN: Duration = Duration::from_millis(200);

/// The item that is sold, and how much of it is delivered at first: more than all tests sell.
const SKU: &str = "85123A";
const DELIVERED: i64 = 100_000;

/// One answer to one attempt at a command.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) begun: Instant,
    pub(crate) at: Instant,
    pub(crate) status: u16,
    /// The whole reply, for a failure's message.
    pub(crate) reply: String,
}

/// What a customer wants of an order once it is reserved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wish {
    Confirm,
    Cancel,
    Leave,
}

/// Clients of both services, all that they were told, and what they bought.
#[derive(Debug)]
pub(crate) struct Shop {
    customer: Client,
    other: Client,
    operator: Client,
    operator_token: String,
    log: RequestLog,
    answers: Mutex<Vec<Answer>>,
    sold: Mutex<Vec<Sold>>,
}

/// An order that was decided, as its customer knows it.
#[derive(Debug, Clone)]
struct Sold {
    id: String,
    quantity: i64,
    wish: Wish,
}

impl Shop {
    /// Gets tokens as docs/compose.md says, and takes a first delivery.
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
            sold: Mutex::default(),
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

    /// A second client's view of the order service.
    pub(crate) fn other(&self) -> &Client {
        &self.other
    }

    /// The answers to commands so far, in the order in which they came.
    pub(crate) fn answers(&self) -> Vec<Answer> {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Places an order, waits until it is decided, does with it as it wishes, and waits again.
    pub(crate) async fn buy(&self, quantity: i64, wish: Wish) -> String {
        let placed = self.command("/v1/orders", Some(&basket(quantity))).await;
        assert!(matches!(placed.status.as_u16(), 201 | 202), "{placed}");
        let id = placed.json()["id"].as_str().unwrap().to_owned();
        self.becomes(&id, "reserved").await;
        let wanted = match wish {
            Wish::Confirm => Some(("confirm", "confirmed")),
            Wish::Cancel => Some(("cancel", "cancelled")),
            Wish::Leave => None,
        };
        if let Some((command, state)) = wanted {
            let told = self.command(&format!("/v1/orders/{id}/{command}"), None).await;
            assert!(matches!(told.status.as_u16(), 200 | 202), "{told}");
            self.becomes(&id, state).await;
        }
        self.note(Sold { id: id.clone(), quantity, wish });
        id
    }

    /// Places an order and takes the first answer for the last one. What was refused has to have left nothing.
    pub(crate) async fn ask_once(&self, quantity: i64) {
        let key = format!("compose-{}", Uuid::new_v4());
        let placed = self.attempt("/v1/orders", Some(&basket(quantity)), &key).await.unwrap();
        if let Some(id) = placed.json()["id"].as_str() {
            self.note(Sold { id: id.to_owned(), quantity, wish: Wish::Leave });
        }
    }

    fn note(&self, sold: Sold) {
        self.sold.lock().unwrap_or_else(PoisonError::into_inner).push(sold);
    }

    /// Sends a command with one key until it is answered with less than 500.
    async fn command(&self, path: &str, body: Option<&Value>) -> Reply {
        let key = format!("compose-{}", Uuid::new_v4());
        let first = Instant::now();
        loop {
            let missing = match self.attempt(path, body, &key).await {
                Ok(reply) if reply.status.as_u16() < 500 => return reply,
                Ok(refusal) => refusal.to_string(),
                // A connection may end between its last use and this one: nobody knows what became of the request.
                Err(unanswered) => unanswered.to_string(),
            };
            assert!(first.elapsed() < DECIDED_WITHIN, "{path} is refused to the end: {missing}");
            sleep(ASK_AGAIN).await;
        }
    }

    /// An answer of 500 or more has to say what it means: that nothing was done, or that nobody knows; the history
    /// shows afterwards whether it was true.
    async fn attempt(&self, path: &str, body: Option<&Value>, key: &str) -> Result<Reply, Unanswered> {
        let call = self.customer.post(path).key(key);
        let call = match body {
            Some(body) => call.json(body),
            None => call,
        };
        let begun = Instant::now();
        let reply = call.send().await?;
        let status = reply.status.as_u16();
        assert!(
            status < 500 || matches!(reply.header("x-outcome"), "not-executed" | "unknown"),
            "{path}: {reply}"
        );
        let answer = Answer { begun, at: Instant::now(), status, reply: reply.to_string() };
        self.answers.lock().unwrap_or_else(PoisonError::into_inner).push(answer);
        Ok(reply)
    }

    async fn becomes(&self, id: &str, state: &str) {
        eventually(&format!("order {id} is {state}"), DECIDED_WITHIN, || async {
            let order = self.customer.get(&format!("/v1/orders/{id}")).send().await?;
            anyhow::ensure!(order.status == 200 && order.json()["status"] == state, "{order}");
            Ok(())
        })
        .await;
    }

    /// Holds what customers were told against the item: nothing was lost, and no stock invented.
    pub(crate) async fn balance(&self) {
        let (mut shipped, mut held) = (0, 0);
        let sold = self.sold.lock().unwrap_or_else(PoisonError::into_inner).clone();
        for Sold { id, quantity, wish } in sold {
            let order = self.customer.get(&format!("/v1/orders/{id}")).send().await.unwrap().expect(200);
            let state = match wish {
                Wish::Confirm => "confirmed",
                Wish::Cancel => "cancelled",
                Wish::Leave => "reserved",
            };
            assert_eq!(order.json()["status"], state, "{order}");
            match wish {
                Wish::Confirm => shipped += quantity,
                Wish::Leave => held += quantity,
                Wish::Cancel => {}
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

/// `docker compose run --rm -T credentials token NAME`
async fn token(stack: &Stack, name: &str) -> String {
    let token = stack.compose(&["run", "--rm", "-T", "credentials", "token", name]).await.unwrap();
    token.trim().to_owned()
}
