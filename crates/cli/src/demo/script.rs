//! The faults of inventory, with their times.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, bail};
use bytes::Bytes;
use http::Method;
use journal::clock::wall_now;
use local::pair::RunningPair;
use local::{ChildEvent, Service};
use replay::{Client, Tally, refusal};
use serde_json::{Value, json};
use time::OffsetDateTime;
use tokio::sync::mpsc::UnboundedSender;
use tokio::time::{Instant, sleep};

/// The acts. Latencies are counted for each.
pub(super) const ACTS: [&str; 4] = ["before", "inventory slow", "inventory dead", "after"];

const CALM: Duration = Duration::from_secs(8);
const SLOW: Duration = Duration::from_secs(6);
const CALM_AGAIN: Duration = Duration::from_secs(3);
const DEAD: Duration = Duration::from_secs(7);
const AFTER: Duration = Duration::from_secs(12);

/// Extra latency in milliseconds. With its jitter it stays below half a second, from which the order service counts
/// calls as slow and stops making them.
const SLOW_MS: u64 = 200;
const SLOW_JITTER_MS: u64 = 200;
/// Long enough for some orders to lose the replies of all their attempts, short enough for the breaker to stay
/// closed.
const REPLIES_LOST: Duration = Duration::from_millis(150);
/// The name of inventory's fault point.
const POINT: &str = "inventory-server";

/// The length of the script, without inventory's start.
pub(super) fn length() -> Duration {
    CALM + SLOW + CALM_AGAIN + DEAD + AFTER
}

/// Distinguishes the script's own kill from every other death.
#[derive(Debug, Clone, Default)]
pub(super) struct ScriptedKill(Arc<AtomicBool>);

impl ScriptedKill {
    pub(super) fn covers(&self, event: &ChildEvent) -> bool {
        match event {
            ChildEvent::Died { name, .. } => {
                *name == Service::Inventory.name() && self.0.load(Ordering::Relaxed)
            }
            ChildEvent::Restarted { .. } => true,
            ChildEvent::NotStarted { .. } => false,
        }
    }
}

/// Instants of the script, by the clock that the journals use.
#[derive(Debug, Clone, Copy)]
pub(super) struct Moments {
    /// The first lost reply.
    pub(super) trouble: OffsetDateTime,
    /// The return of inventory.
    pub(super) healed: OffsetDateTime,
}

pub(super) struct Script<'a> {
    pair: &'a RunningPair,
    tally: Arc<Tally>,
    say: UnboundedSender<String>,
    scripted_kill: ScriptedKill,
    operations: Client,
}

impl<'a> Script<'a> {
    pub(super) fn new(
        pair: &'a RunningPair,
        tally: Arc<Tally>,
        say: UnboundedSender<String>,
        scripted_kill: ScriptedKill,
    ) -> anyhow::Result<Self> {
        let url = pair.ops_url(Service::Inventory);
        let operations = Client::new("inventory-operations", &url, Some(&pair.tokens().operator.secret))?;
        Ok(Self { pair, tally, say, scripted_kill, operations })
    }

    pub(super) async fn play(&self) -> anyhow::Result<Moments> {
        sleep(CALM).await;

        self.say(&format!(
            "inventory becomes slow: {SLOW_MS} to {} ms more for every call",
            SLOW_MS + SLOW_JITTER_MS
        ));
        self.tally.enter(1);
        let lasts = u64::try_from(SLOW.as_millis()).unwrap_or(u64::MAX);
        let slow = json!({"fault": "latency", "ms": SLOW_MS, "jitter_ms": SLOW_JITTER_MS, "for_ms": lasts});
        self.inject(slow, "the demo: a slow dependency").await?;
        sleep(SLOW).await;
        self.tally.enter(0);
        self.say("inventory is fast again: no order was lost, customers only waited");
        sleep(CALM_AGAIN).await;

        self.say("inventory's replies get lost: its work takes effect, and its callers get no reply");
        self.tally.enter(2);
        let trouble = wall_now();
        self.inject(json!({"fault": "reply-lost"}), "the demo: replies lost after the effect").await?;
        sleep(REPLIES_LOST).await;
        let pid = self.pair.pid(Service::Inventory).unwrap_or_default();
        self.scripted_kill.0.store(true, Ordering::Relaxed);
        self.pair.kill(Service::Inventory).await;
        self.say(&format!("inventory is killed (SIGKILL to process {pid}) with requests in flight"));
        sleep(DEAD).await;

        let starting = Instant::now();
        self.pair.start_service(Service::Inventory).await.context("inventory could not be started again")?;
        let healed = wall_now();
        self.scripted_kill.0.store(false, Ordering::Relaxed);
        self.tally.enter(3);
        let pid = self.pair.pid(Service::Inventory).unwrap_or_default();
        let took = starting.elapsed().as_millis();
        self.say(&format!("inventory runs again (process {pid}), ready after {took} ms"));
        sleep(AFTER).await;
        Ok(Moments { trouble, healed })
    }

    async fn inject(&self, mut fault: Value, reason: &str) -> anyhow::Result<()> {
        fault["reason"] = reason.into();
        let path = format!("/admin/v1/faults/{POINT}");
        let reply = self.operations.send(Method::PUT, &path, Bytes::from(fault.to_string())).await?;
        if !reply.status().is_success() {
            bail!("the fault {fault} cannot be injected: {}", refusal(&reply));
        }
        Ok(())
    }

    fn say(&self, line: &str) {
        // The receiver is gone only when the demo is ending.
        let _receiver_is_gone_at_the_end = self.say.send(line.to_owned());
    }
}
