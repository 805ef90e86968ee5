//! Load: a steady stream of orders at a low rate.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{MissedTickBehavior, interval};

use crate::shop::{Plan, Shop};

/// Interval between orders. Ten orders a second are enough to have orders in every state at a fault, and few for
/// a service that places hundreds.
const EVERY: Duration = Duration::from_millis(100);

/// The running load.
#[derive(Debug)]
pub(crate) struct Load {
    stop: watch::Sender<bool>,
    running: JoinHandle<usize>,
}

impl Load {
    /// Starts the load.
    pub(crate) fn start(shop: &Arc<Shop>) -> Self {
        let (stop, mut stopped) = watch::channel(false);
        let shop = Arc::clone(shop);
        let running = tokio::spawn(async move {
            let mut customers = JoinSet::new();
            let mut arrivals = interval(EVERY);
            arrivals.set_missed_tick_behavior(MissedTickBehavior::Skip);
            let mut plans =
                [Plan::Confirm, Plan::Cancel, Plan::Confirm, Plan::KeepReserved].into_iter().cycle();
            loop {
                tokio::select! {
                    _ = stopped.changed() => break,
                    _ = arrivals.tick() => {}
                }
                let (shop, plan) = (Arc::clone(&shop), plans.next().expect("a cycle never ends"));
                let quantity = 1 + i64::try_from(customers.len() % 6).expect("below 6");
                customers.spawn(async move { shop.buy(quantity, plan).await });
            }
            customers.join_all().await.len()
        });
        Self { stop, running }
    }

    /// Stops the load, waits until every order is decided, and returns the number of orders.
    pub(crate) async fn stop(self) -> usize {
        self.stop.send_replace(true);
        self.running.await.expect("no customer's check fails")
    }
}
