//! The replay of a plan: stock first, then every order when it is due, whether or not earlier orders have ended.
//!
//! The schedule is absolute and the load is open, as in life: customers do not wait for one another, so a slow
//! service gets no rest.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use futures_util::{StreamExt, stream};
use inventory_api::CreateItem;
use inventory_api::validate::MAX_QUANTITY;
use mainstay::random::Random;
use order_service::domain::Status;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};
use uuid::Uuid;

use crate::retail::{Action, Fate, Item, Plan, Return, Sale};
use crate::shop::{CommandResult, DueTime, GivenUp, Shop};
use crate::tally::{Counts, Outcome, at_quantile};
use crate::text::bar;

/// The number of items created at the same time.
const STOCKING: usize = 16;
/// The longest time between the reservation and the customer's confirm or cancel.
const THINKS: Duration = Duration::from_millis(800);

/// Parses orders begun per second, from 0.1 to 2000.
pub fn parse_rate(text: &str) -> Result<f64, String> {
    let rate: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    if (0.1..=2_000.0).contains(&rate) { Ok(rate) } else { Err("must be from 0.1 to 2000".to_owned()) }
}

/// A replay: the plan, the services and the rate.
#[derive(Debug, Clone)]
pub struct Replay {
    pub shop: Shop,
    pub plan: Arc<Plan>,
    /// Orders and returns begun per second.
    pub rate: f64,
    /// The id that keeps this replay's keys apart from those of other replays.
    pub run: Uuid,
}

/// The result of stocking.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stocked {
    pub created: u64,
    /// Items that existed and got the same quantity again.
    pub topped_up: u64,
    /// Items that inventory refused.
    pub refused: u64,
    /// The first refused item, with the reason.
    pub first_refusal: Option<String>,
}

impl fmt::Display for Stocked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} items are in stock", self.created + self.topped_up)?;
        if self.topped_up > 0 {
            write!(f, "; {} of them existed and got the same quantity again", self.topped_up)?;
        }
        if let Some(first) = &self.first_refusal {
            write!(f, "; inventory refused {} more, the first is {first}", self.refused)?;
        }
        Ok(())
    }
}

/// The order of a sale that a return waits for: not known yet, reserved, or gone.
#[derive(Debug, Clone, Copy)]
enum Awaited {
    Pending,
    Reserved(Uuid),
    Gone,
}

type Awaiting = HashMap<usize, watch::Sender<Awaited>>;

impl Replay {
    /// Stocks the plan's items. A refused item is counted, and the others go on.
    ///
    /// # Errors
    /// Inventory does not answer.
    pub async fn stock(&self) -> anyhow::Result<Stocked> {
        let each = stream::iter(&self.plan.items)
            .map(|item| async move { (&item.sku, self.stock_item(item).await) })
            .buffer_unordered(STOCKING);
        let mut each = std::pin::pin!(each);
        let mut stocked = Stocked::default();
        while let Some((sku, result)) = each.next().await {
            match result {
                Ok(true) => stocked.created += 1,
                Ok(false) => stocked.topped_up += 1,
                Err(error @ GivenUp::Refused { .. }) => {
                    stocked.refused += 1;
                    stocked.first_refusal.get_or_insert_with(|| format!("{sku}: {error}"));
                }
                Err(error @ GivenUp::Patience { .. }) => {
                    return Err(error).with_context(|| format!("the item {sku} could not be stocked"));
                }
            }
        }
        Ok(stocked)
    }

    /// Stocks one item; `false` when it existed and got the same quantity again.
    async fn stock_item(&self, item: &Item) -> Result<bool, GivenUp> {
        let Item { sku, name, on_hand } = item.clone();
        let key = |what: &str| format!("replay-{}-{what}-{sku}", self.run.simple());
        let body = CreateItem { sku: sku.clone(), name, on_hand };
        if self.shop.create(&key("item"), &body).await? {
            return Ok(true);
        }
        let mut left = on_hand;
        while left > 0 {
            let quantity = left.min(MAX_QUANTITY);
            self.shop.receive(&key(&format!("more-{left}")), &sku, quantity).await?;
            left -= quantity;
        }
        Ok(false)
    }

    /// Runs every action of the plan when it is due, and returns when the last one has ended. Dropping the future ends
    /// all of them at once; the services finish the requests that they have begun.
    pub async fn run(&self) -> anyhow::Result<()> {
        let awaiting: Arc<Awaiting> = Arc::new(
            self.plan
                .actions
                .iter()
                .enumerate()
                .filter(|(_, action)| matches!(action, Action::Sale(sale) if sale.fate == Fate::AwaitReturn))
                .map(|(n, _)| (n, watch::Sender::new(Awaited::Pending)))
                .collect(),
        );
        let began = Instant::now();
        let mut running = JoinSet::new();
        for n in 0..self.plan.actions.len() {
            #[allow(clippy::cast_precision_loss, reason = "no plan has 2^53 actions")]
            let at = began + Duration::from_secs_f64(n as f64 / self.rate);
            sleep_until(at).await;
            let due = DueTime { at, phase: self.shop.tally.phase() };
            self.shop.tally.begun(at.elapsed());
            let (replay, awaiting) = (self.clone(), Arc::clone(&awaiting));
            running.spawn(async move { replay.act(n, due, &awaiting).await });
            while let Some(over) = running.try_join_next() {
                over.context("an action of the replay panicked")?;
            }
        }
        while let Some(over) = running.join_next().await {
            over.context("an action of the replay panicked")?;
        }
        Ok(())
    }

    async fn act(&self, n: usize, due: DueTime, awaiting: &Awaiting) {
        let tally = &self.shop.tally;
        let outcome = match &self.plan.actions[n] {
            Action::Sale(sale) => {
                let outcome = self.sale(n, due, sale, awaiting.get(&n)).await;
                // A return must not wait for an order that will never exist.
                if let Some(awaited) = awaiting.get(&n) {
                    awaited.send_if_modified(|awaited| {
                        let is_pending = matches!(awaited, Awaited::Pending);
                        if is_pending {
                            *awaited = Awaited::Gone;
                        }
                        is_pending
                    });
                }
                outcome
            }
            Action::Return(Return::OfSale { sale, .. }) => {
                self.returned(n, awaiting.get(sale)).await.map(Some)
            }
            Action::Return(Return::IntoStock { lines, .. }) => self.put_back(n, lines).await.map(Some),
        };
        match outcome {
            Ok(Some(outcome)) => tally.over(outcome),
            Ok(None) => {}
            Err(error) => tally.failed(&format!("invoice {}: {error}", self.invoice(n))),
        }
    }

    /// Runs a sale; `None` when a later return decides its outcome.
    async fn sale(
        &self,
        n: usize,
        due: DueTime,
        sale: &Sale,
        awaited: Option<&watch::Sender<Awaited>>,
    ) -> Result<Option<Outcome>, GivenUp> {
        let placed = self.shop.place(due, &self.key(n, "place"), &sale.customer, &sale.lines).await?;
        let order = match placed {
            CommandResult::Order(order) => order,
            CommandResult::Refused => return Ok(Some(Outcome::Refused)),
        };
        if order.status == Status::Expired {
            return Ok(Some(Outcome::Expired));
        }
        if let Some(awaited) = awaited {
            awaited.send_replace(Awaited::Reserved(order.id));
            return Ok(None);
        }
        sleep(Random::seeded(n as u64).up_to(THINKS)).await;
        let ended = match sale.fate {
            Fate::Cancel => self.shop.cancel(&self.key(n, "cancel"), order.id).await?,
            Fate::Confirm | Fate::AwaitReturn => self.shop.confirm(&self.key(n, "confirm"), order.id).await?,
        };
        Ok(Some(match ended {
            CommandResult::Order(order) if order.status == Status::Confirmed => Outcome::Confirmed,
            CommandResult::Order(order) if order.status == Status::Cancelled => Outcome::Cancelled,
            CommandResult::Order(_) | CommandResult::Refused => Outcome::Expired,
        }))
    }

    /// Cancels the order that was left unconfirmed for this return, as soon as the order is reserved.
    async fn returned(&self, n: usize, awaited: Option<&watch::Sender<Awaited>>) -> Result<Outcome, GivenUp> {
        let Some(awaited) = awaited else { return Ok(Outcome::NothingToReturn) };
        let mut awaited = awaited.subscribe();
        let known = awaited.wait_for(|awaited| !matches!(awaited, Awaited::Pending)).await;
        let Ok(Awaited::Reserved(order)) = known.map(|known| *known) else {
            return Ok(Outcome::NothingToReturn);
        };
        Ok(match self.shop.cancel(&self.key(n, "cancel"), order).await? {
            CommandResult::Order(order) if order.status == Status::Cancelled => Outcome::CancelledByReturn,
            CommandResult::Order(_) | CommandResult::Refused => Outcome::NothingToReturn,
        })
    }

    async fn put_back(&self, n: usize, lines: &[inventory_api::Line]) -> Result<Outcome, GivenUp> {
        for (at, line) in lines.iter().enumerate() {
            let key = self.key(n, &format!("receipt-{at}"));
            self.shop.receive(&key, &line.sku, line.quantity).await?;
        }
        Ok(Outcome::PutBack)
    }

    fn key(&self, n: usize, what: &str) -> String {
        format!("replay-{}-{n}-{what}", self.run.simple())
    }

    fn invoice(&self, n: usize) -> &str {
        match &self.plan.actions[n] {
            Action::Sale(Sale { invoice, .. })
            | Action::Return(Return::OfSale { invoice, .. } | Return::IntoStock { invoice, .. }) => invoice,
        }
    }

    /// Sends the `place` of at most `count` orders again under the old keys, and expects the first reply. The replies
    /// go into the log, where the checker compares the bytes.
    pub async fn ask_again(&self, count: usize) -> anyhow::Result<usize> {
        let sales: Vec<_> = self.plan.actions.iter().enumerate().collect();
        let every = (sales.len() / count.max(1)).max(1);
        let mut asked = 0;
        for (n, action) in sales.into_iter().step_by(every) {
            let Action::Sale(sale) = action else { continue };
            let due = DueTime { at: Instant::now(), phase: usize::MAX };
            if let Err(error) = self.shop.place(due, &self.key(n, "place"), &sale.customer, &sale.lines).await
            {
                bail!("invoice {}, placed again under its old key: {error}", self.invoice(n));
            }
            asked += 1;
        }
        Ok(asked)
    }
}

/// The progress of the replay in a few lines, for the live region.
pub fn progress(counts: &Counts, rate: f64, (phase, name): (usize, &str)) -> Vec<String> {
    let of = |outcome| counts.of(outcome);
    let waits = &counts.phases[phase.min(counts.phases.len() - 1)].answered;
    vec![
        format!(
            "  {} {} of {} begun, {rate} a second",
            bar(counts.begun, counts.planned, 30),
            counts.begun,
            counts.planned
        ),
        format!(
            "  confirmed {}  cancelled {}  refused {}  back in stock {}  failed {}",
            of(Outcome::Confirmed),
            of(Outcome::Cancelled) + of(Outcome::CancelledByReturn),
            of(Outcome::Refused),
            of(Outcome::PutBack),
            of(Outcome::Failed)
        ),
        format!(
            "  answered 202 and waiting {:<5} {name}: answered in p50 {}  p99 {}",
            counts.waiting,
            at_quantile(waits, 0.5),
            at_quantile(waits, 0.99)
        ),
    ]
}

/// The progress in one line, for an output that cannot be redrawn.
pub fn progress_line(counts: &Counts) -> String {
    format!(
        "  {} of {} begun, {} over, {} answered 202 and waiting, {} failed",
        counts.begun,
        counts.planned,
        counts.over(),
        counts.waiting,
        counts.of(Outcome::Failed)
    )
}
