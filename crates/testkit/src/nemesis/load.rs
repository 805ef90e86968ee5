//! The clients. What each wants is drawn from the seed, wish by wish; what becomes of it is up to the pair.
//!
//! A client behaves as the contract asks of one: it repeats what it got no final answer to under the same key, at
//! whatever replica it finds; or, told that nothing was done, it lets it be. It also does what no client should and many
//! do: it leaves, it sends things twice at once, it confirms and cancels in the same moment.

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

/// What there is at the start. The last one runs out and is received again.
pub(super) const STOCK: [(&str, i64); 3] = [("A", 100_000), ("B", 100_000), ("C", 25)];
const SCARCE: &str = "C";
const UNKNOWN: &str = "nothing like it";

/// How often a client asks again while things go wrong; what is still open then is asked at the end.
const REPEATS: u32 = 4;

/// Beyond its deadline a service is silent: it has been killed, or stands still.
const SILENCE: Duration = Duration::from_secs(1);

/// Everybody's ways to every replica, and what nobody should have been told.
pub(super) struct Clients {
    settings: Settings,
    orders: Vec<[Client; 2]>,
    inventories: Vec<Client>,
    strange: Mutex<Vec<String>>,
}

/// Something that was asked for under a key.
#[derive(Debug)]
pub(super) struct Wish {
    service: Service,
    /// Which of the two clients' principals.
    who: usize,
    path: String,
    key: String,
    body: Option<Value>,
    /// Nobody asks for it again: each time it was told that nothing was done, and takes that for an answer.
    is_dropped: bool,
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
            strange: Mutex::default(),
        }
    }

    /// Has all clients work until then. Gives everything that they wished for.
    pub(super) async fn work(&self, until: Instant) -> Vec<Vec<Wish>> {
        join_all((0..self.settings.clients).map(|number| self.shop(number, until))).await
    }

    /// Asks for everything once more, until it has its final answer. The checker sees to it that one that was heard
    /// before is heard again, byte for byte.
    pub(super) async fn ask_again(&self, wishes: &[Vec<Wish>], within: Duration) -> Result<(), String> {
        let until = Instant::now() + within;
        let each = wishes.iter().map(|wishes| async move {
            for wish in wishes.iter().filter(|wish| !wish.is_dropped) {
                let what = format!("the final answer to {} {}", wish.path, wish.key);
                let mut replica = 0;
                crate::in_time(&what, until.saturating_duration_since(Instant::now()), || {
                    replica += 1;
                    async move {
                        let reply = self.send(wish, replica, DEADLINES[1], None).await?;
                        anyhow::ensure!(is_final(wish, &reply), "{reply}");
                        Ok(())
                    }
                })
                .await?;
            }
            Ok(())
        });
        join_all(each).await.into_iter().collect()
    }

    /// Answers that the contract does not know, or not for this request.
    pub(super) fn strange(&self) -> Vec<String> {
        std::mem::take(&mut *self.strange.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
    }

    async fn shop(&self, number: u64, until: Instant) -> Vec<Wish> {
        let (mut wishes, mut latest, mut turn) = (Vec::new(), None, 0);
        while Instant::now() < until {
            turn += 1;
            // Each turn's draws are its own: they do not hang on how often an earlier one was repeated.
            let draw = Draw::of(self.settings.seed, (number + 1) << 32 | turn);
            sleep(Duration::from_millis(draw.within(0..=40))).await;
            let name = format!("nemesis-{}-{number}-{turn}", self.settings.seed);
            let who = usize::from(number % 2 == 1);
            match draw.within(0..=99) {
                0..=69 => latest = self.order(&draw, who, &name, until, &mut wishes).await.or(latest),
                70..=77 => wishes.push(self.receive(&draw, &name, until).await),
                _ => self.read(&draw, who, latest.as_deref()).await,
            }
        }
        wishes
    }

    /// Places an order, and confirms it, cancels it, both, or neither. Gives its id, if that was heard.
    async fn order(
        &self,
        draw: &Draw,
        who: usize,
        name: &str,
        until: Instant,
        wishes: &mut Vec<Wish>,
    ) -> Option<String> {
        let mut place = Wish {
            service: Service::Order,
            who,
            path: "/v1/orders".to_owned(),
            key: format!("{name}-place"),
            body: Some(basket(draw)),
            is_dropped: false,
        };
        let reply = self.ask(draw, &mut place, until).await;
        wishes.push(place);
        let reply = reply?;
        let json = reply.json();
        let id = json["id"].as_str().or_else(|| json["order_id"].as_str())?.to_owned();
        let command = |what: &str| Wish {
            service: Service::Order,
            who,
            path: format!("/v1/orders/{id}/{what}"),
            key: format!("{name}-{what}"),
            body: None,
            is_dropped: false,
        };
        let (mut confirm, mut cancel) = (command("confirm"), command("cancel"));
        // Whoever has to wait changes his mind more often than not.
        let patient = if reply.status.as_u16() == 202 { 15 } else { 55 };
        match draw.within(0..=99) {
            chance if chance < patient => {
                self.ask(draw, &mut confirm, until).await;
                wishes.push(confirm);
            }
            0..=69 => {
                self.ask(draw, &mut cancel, until).await;
                wishes.push(cancel);
            }
            70..=84 => {
                join(self.ask(draw, &mut confirm, until), self.ask(draw, &mut cancel, until)).await;
                wishes.extend([confirm, cancel]);
            }
            _ => {}
        }
        Some(id)
    }

    async fn receive(&self, draw: &Draw, name: &str, until: Instant) -> Wish {
        let mut wish = Wish {
            service: Service::Inventory,
            who: 0,
            path: format!("/v1/items/{SCARCE}/receipts"),
            key: format!("{name}-receive"),
            body: Some(json!({ "quantity": draw.within(1..=10) })),
            is_dropped: false,
        };
        self.ask(draw, &mut wish, until).await;
        wish
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
            self.found_strange("a read", &reply);
        }
    }

    /// Asks until there is a final answer, or the client has had enough. Gives the latest answer.
    async fn ask(&self, draw: &Draw, wish: &mut Wish, until: Instant) -> Option<Reply> {
        let (mut latest, mut was_refused) = (None, true);
        let drops = draw.percent(30);
        for repeat in 0..=REPEATS {
            let (replica, deadline) = (draw.index(2), draw.one_of(&DEADLINES));
            let leaves = draw.percent(8).then(|| Duration::from_millis(draw.within(1..=150)));
            let first = self.send(wish, replica, deadline, leaves);
            let answers = if draw.percent(10) {
                let (one, other) = join(first, self.send(wish, replica + 1, deadline, None)).await;
                vec![one, other]
            } else {
                vec![first.await]
            };
            was_refused &= answers.iter().all(|answer| is_refused(wish, answer));
            if was_refused && drops {
                wish.is_dropped = true;
                return None;
            }
            let mut answers: Vec<Reply> = answers.into_iter().filter_map(Result::ok).collect();
            if let Some(last) = answers.iter().position(|reply| is_final(wish, reply)) {
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
        wish: &Wish,
        replica: usize,
        deadline: Duration,
        leaves: Option<Duration>,
    ) -> Result<Reply, Unanswered> {
        let client = match wish.service {
            Service::Order => &self.orders[replica % self.orders.len()][wish.who],
            Service::Inventory => &self.inventories[replica % self.inventories.len()],
        };
        let call = client.post(&wish.path).key(&wish.key).deadline(deadline);
        let call = call.patience(leaves.unwrap_or(deadline + SILENCE));
        let call = match &wish.body {
            Some(body) => call.json(body),
            None => call,
        };
        let reply = call.send().await?;
        let known = match (reply.status.as_u16(), reply.problem().as_deref()) {
            (422, problem) => problem == Some("unknown-sku"),
            (status, _) => matches!(status, 200 | 201 | 202 | 409 | 410 | 429 | 503 | 504),
        };
        if !known {
            self.found_strange(&wish.path, &reply);
        }
        Ok(reply)
    }

    fn found_strange(&self, asked: &str, reply: &Reply) {
        let mut strange = self.strange.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        strange.push(format!("{asked} was answered {reply}"));
    }
}

/// Less than a call to inventory may need when it is slow, an ordinary one, and the service's own default.
const DEADLINES: [Duration; 3] = [Duration::from_millis(300), Duration::from_secs(1), Duration::from_secs(2)];

fn is_final(wish: &Wish, reply: &Reply) -> bool {
    reply.as_told(crate::pair::side(wish.service)).is_final()
}

/// Whether it says that nothing was done.
fn is_refused(wish: &Wish, answer: &Result<Reply, Unanswered>) -> bool {
    match answer {
        Ok(reply) => reply.as_told(crate::pair::side(wish.service)).is_not_executed(),
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
    // Items are wanted in any order, so that their locks would be taken in any order.
    if draw.percent(50) {
        lines.reverse();
    }
    TestPair::basket(&lines)
}
