//! A small, steady stream of orders.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{MissedTickBehavior, interval};

use crate::shop::{Shop, Wish};

/// Ten orders a second: enough to have some in every state when a fault comes, and nothing to a service that does
/// hundreds.
const EVERY: Duration = Duration::from_millis(100);

/// Customers who come until they are told to stop.
#[derive(Debug)]
pub(crate) struct Load {
    stop: watch::Sender<bool>,
    running: JoinHandle<usize>,
}

impl Load {
    /// Begins.
    pub(crate) fn start(shop: &Arc<Shop>) -> Self {
        let (stop, mut stopped) = watch::channel(false);
        let shop = Arc::clone(shop);
        let running = tokio::spawn(async move {
            let mut customers = JoinSet::new();
            let mut arrivals = interval(EVERY);
            arrivals.set_missed_tick_behavior(MissedTickBehavior::Skip);
            let mut wishes = [Wish::Confirm, Wish::Cancel, Wish::Confirm, Wish::Leave].into_iter().cycle();
            loop {
                tokio::select! {
                    _ = stopped.changed() => break,
                    _ = arrivals.tick() => {}
                }
                let (shop, wish) = (Arc::clone(&shop), wishes.next().expect("it never ends"));
                let quantity = 1 + i64::try_from(customers.len() % 6).expect("below 6");
                customers.spawn(async move { shop.buy(quantity, wish).await });
            }
            customers.join_all().await.len()
        });
        Self { stop, running }
    }

    /// Lets nobody in any more, waits until every order is decided, and says how many there were.
    pub(crate) async fn stop(self) -> usize {
        self.stop.send_replace(true);
        self.running.await.expect("every customer is content")
    }
}
