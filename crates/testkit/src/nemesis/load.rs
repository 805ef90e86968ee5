//! The clients that load a pair. Their commands are drawn from the seed.
//!
//! A client follows the contract: it repeats a command without a final answer under the same key, at any replica. If
//! every answer so far says that nothing was done, it may also abandon the command.
//!
//! A client also does things that real clients do: it disconnects early, it sends a command twice concurrently, and it
//! confirms and cancels an order at the same time.

use std::sync::Mutex;
use std::time::Duration;

use futures_util::future::{join, join_all};
use local::Service;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::generate::Draw;
use super::schedule::Settings;
use crate::http::{Client, Reply, Unanswered};
use crate::pair::{TestPair, Who};

/// Items and their stock at the start. The last item runs out and gets new stock.
pub(super) const STOCK: [(&str, i64); 3] = [("A", 100_000), ("B", 100_000), ("C", 25)];
const SCARCE: &str = "C";
const UNKNOWN: &str = "no such item";

/// Most repeats of a command during the load. A command without a final answer is repeated again at the end.
const REPEATS: u32 = 4;

/// Time that a client waits beyond the deadline. A service that is still silent then is dead or paused.
const SILENCE: Duration = Duration::from_secs(1);

/// Clients of every principal for every replica, and the unexpected answers that they got.
pub(super) struct Clients {
    settings: Settings,
    orders: Vec<[Client; 2]>,
    inventories: Vec<Client>,
    unexpected: Mutex<Vec<String>>,
}

/// A command that a client sent under an idempotency key.
#[derive(Debug)]
pub(super) struct Command {
    service: Service,
    /// Index of the client's principal, 0 or 1.
    who: usize,
    path: String,
    key: String,
    body: Option<Value>,
    /// True if the client stopped repeating it because every answer said that nothing was done.
    is_abandoned: bool,
}

impl Clients {
    pub(super) fn of(pair: &TestPair, settings: &Settings) -> Self {
        let of = |service, replica, who| pair.client_of(service, replica, who);
        let both = |replica| [Who::Client, Who::Other].map(|who| of(Service::Order, replica, who));
        let operator = |replica| of(Service::Inventory, replica, Who::Operator);
        Self {
            settings: settings.clone(),
            orders: (0..settings.orders).map(both).collect(),
            inventories: (0..settings.inventories).map(operator).collect(),
            unexpected: Mutex::default(),
        }
    }

    /// Runs all clients until `until` and returns their commands.
    pub(super) async fn work(&self, until: Instant) -> Vec<Vec<Command>> {
        join_all((0..self.settings.clients).map(|number| self.run_client(number, until))).await
    }

    /// Repeats every command that was not abandoned, until it has its final answer.
    ///
    /// The checker requires that a final answer that was received before comes again, byte for byte.
    pub(super) async fn repeat_all(&self, commands: &[Vec<Command>], within: Duration) -> Result<(), String> {
        let until = Instant::now() + within;
        let each = commands.iter().map(|commands| async move {
            for command in commands.iter().filter(|command| !command.is_abandoned) {
                let what = format!("the final answer to {} {}", command.path, command.key);
                let mut replica = 0;
                crate::in_time(&what, until.saturating_duration_since(Instant::now()), || {
                    replica += 1;
                    async move {
                        let reply = self.send(command, replica, DEADLINES[1], None).await?;
                        anyhow::ensure!(is_final(command, &reply), "{reply}");
                        Ok(())
                    }
                })
                .await?;
            }
            Ok(())
        });
        join_all(each).await.into_iter().collect()
    }

    /// Answers that the contract does not allow for their request. Clears the list.
    pub(super) fn unexpected(&self) -> Vec<String> {
        std::mem::take(&mut *self.unexpected.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
    }

    async fn run_client(&self, number: u64, until: Instant) -> Vec<Command> {
        let (mut commands, mut latest, mut turn) = (Vec::new(), None, 0);
        while Instant::now() < until {
            turn += 1;
            // Each turn has its own draws, so they do not depend on the number of repeats in earlier turns.
            let draw = Draw::of(self.settings.seed, (number + 1) << 32 | turn);
            sleep(Duration::from_millis(draw.within(0..=40))).await;
            let name = format!("nemesis-{}-{number}-{turn}", self.settings.seed);
            let who = usize::from(number % 2 == 1);
            match draw.within(0..=99) {
                0..=69 => latest = self.order(&draw, who, &name, until, &mut commands).await.or(latest),
                70..=77 => commands.push(self.receive(&draw, &name, until).await),
                _ => self.read(&draw, who, latest.as_deref()).await,
            }
        }
        commands
    }

    /// Places an order, and then confirms it, cancels it, does both, or does neither. Returns the order's id if a reply
    /// named it.
    async fn order(
        &self,
        draw: &Draw,
        who: usize,
        name: &str,
        until: Instant,
        commands: &mut Vec<Command>,
    ) -> Option<String> {
        let mut place = Command {
            service: Service::Order,
            who,
            path: "/v1/orders".to_owned(),
            key: format!("{name}-place"),
            body: Some(basket(draw)),
            is_abandoned: false,
        };
        let reply = self.execute(draw, &mut place, until).await;
        commands.push(place);
        let reply = reply?;
        let json = reply.json();
        let id = json["id"].as_str().or_else(|| json["order_id"].as_str())?.to_owned();
        let command = |verb: &str| Command {
            service: Service::Order,
            who,
            path: format!("/v1/orders/{id}/{verb}"),
            key: format!("{name}-{verb}"),
            body: None,
            is_abandoned: false,
        };
        let (mut confirm, mut cancel) = (command("confirm"), command("cancel"));
        // A client that has to wait cancels more often than it confirms.
        let patient = if reply.status.as_u16() == 202 { 15 } else { 55 };
        match draw.within(0..=99) {
            chance if chance < patient => {
                self.execute(draw, &mut confirm, until).await;
                commands.push(confirm);
            }
            0..=69 => {
                self.execute(draw, &mut cancel, until).await;
                commands.push(cancel);
            }
            70..=84 => {
                join(self.execute(draw, &mut confirm, until), self.execute(draw, &mut cancel, until)).await;
                commands.extend([confirm, cancel]);
            }
            _ => {}
        }
        Some(id)
    }

    async fn receive(&self, draw: &Draw, name: &str, until: Instant) -> Command {
        let mut command = Command {
            service: Service::Inventory,
            who: 0,
            path: format!("/v1/items/{SCARCE}/receipts"),
            key: format!("{name}-receive"),
            body: Some(json!({ "quantity": draw.within(1..=10) })),
            is_abandoned: false,
        };
        self.execute(draw, &mut command, until).await;
        command
    }

    async fn read(&self, draw: &Draw, who: usize, order: Option<&str>) {
        let client = &self.orders[draw.index(self.orders.len())][who];
        let call = match (draw.within(0..=3), order) {
            (0, Some(id)) => client.get(&format!("/v1/orders/{id}")),
            (1, Some(id)) => client.get(&format!("/v1/orders/{id}/history")),
            (2, _) => {
                let sku = draw.one_of(&STOCK).0;
                self.inventories[draw.index(self.inventories.len())].get(&format!("/v1/items/{sku}"))
            }
            _ => client.get("/v1/orders?limit=20"),
        };
        let deadline = draw.one_of(&DEADLINES);
        if let Ok(reply) = call.deadline(deadline).patience(deadline + SILENCE).send().await
            && !matches!(reply.status.as_u16(), 200 | 429 | 503 | 504)
        {
            self.record_unexpected("a read", &reply);
        }
    }

    /// Sends a command and repeats it until it has a final answer, until the repeats are used up, or until `until`.
    /// Returns the latest answer.
    async fn execute(&self, draw: &Draw, command: &mut Command, until: Instant) -> Option<Reply> {
        let (mut latest, mut was_refused) = (None, true);
        let abandons = draw.percent(30);
        for repeat in 0..=REPEATS {
            let (replica, deadline) = (draw.index(2), draw.one_of(&DEADLINES));
            let leaves_after = draw.percent(8).then(|| Duration::from_millis(draw.within(1..=150)));
            let first = self.send(command, replica, deadline, leaves_after);
            let answers = if draw.percent(10) {
                let (one, other) = join(first, self.send(command, replica + 1, deadline, None)).await;
                vec![one, other]
            } else {
                vec![first.await]
            };
            was_refused &= answers.iter().all(|answer| is_refused(command, answer));
            if was_refused && abandons {
                command.is_abandoned = true;
                return None;
            }
            let mut answers: Vec<Reply> = answers.into_iter().filter_map(Result::ok).collect();
            if let Some(last) = answers.iter().position(|reply| is_final(command, reply)) {
                return Some(answers.swap_remove(last));
            }
            latest = answers.pop().or(latest);
            if repeat == REPEATS || Instant::now() >= until {
                break;
            }
            sleep(Duration::from_millis(draw.within(10..=250))).await;
        }
        latest
    }

    async fn send(
        &self,
        command: &Command,
        replica: usize,
        deadline: Duration,
        leaves_after: Option<Duration>,
    ) -> Result<Reply, Unanswered> {
        let client = match command.service {
            Service::Order => &self.orders[replica % self.orders.len()][command.who],
            Service::Inventory => &self.inventories[replica % self.inventories.len()],
        };
        let call = client.post(&command.path).key(&command.key).deadline(deadline);
        let call = call.patience(leaves_after.unwrap_or(deadline + SILENCE));
        let call = match &command.body {
            Some(body) => call.json(body),
            None => call,
        };
        let reply = call.send().await?;
        let is_allowed = match (reply.status.as_u16(), reply.problem().as_deref()) {
            (422, problem) => problem == Some("unknown-sku"),
            (status, _) => matches!(status, 200 | 201 | 202 | 409 | 410 | 429 | 503 | 504),
        };
        if !is_allowed {
            self.record_unexpected(&command.path, &reply);
        }
        Ok(reply)
    }

    fn record_unexpected(&self, request: &str, reply: &Reply) {
        let mut unexpected = self.unexpected.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        unexpected.push(format!("unexpected answer to {request}: {reply}"));
    }
}

/// Deadlines of requests: shorter than a slow call to inventory, an ordinary deadline, and the service's default.
const DEADLINES: [Duration; 3] = [Duration::from_millis(300), Duration::from_secs(1), Duration::from_secs(2)];

fn is_final(command: &Command, reply: &Reply) -> bool {
    reply.to_logged(crate::pair::side(command.service)).is_final()
}

/// True if the answer says that nothing was done.
fn is_refused(command: &Command, answer: &Result<Reply, Unanswered>) -> bool {
    match answer {
        Ok(reply) => reply.to_logged(crate::pair::side(command.service)).is_not_executed(),
        Err(Unanswered::NoConnection(_)) => true,
        Err(Unanswered::Broken(_) | Unanswered::Silence(_)) => false,
    }
}

fn basket(draw: &Draw) -> Value {
    let mut lines: Vec<(&str, i64)> = Vec::new();
    for (sku, _) in STOCK {
        if draw.percent(45) {
            lines.push((sku, i64::from(draw.percent(30)) + 1));
        }
    }
    if draw.percent(3) {
        lines.push((UNKNOWN, 1));
    }
    if lines.is_empty() {
        lines.push((SCARCE, 1));
    }
    // Lines come in both orders, so that a service that locks items in line order would deadlock.
    if draw.percent(50) {
        lines.reverse();
    }
    TestPair::basket(&lines)
}
