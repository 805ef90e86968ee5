//! Rows for a breaker's cost by the number of calls in its window. A good sliding window has a constant cost.

use std::time::Duration;

use mainstay::breaker::BreakerConfig;
use tower::Layer as _;

use crate::call::{Boom, Noop, Req, drive, requests, runtime, shared};
use crate::{Baseline, Instance, ours, peers};

/// Window that holds all calls of a measurement.
const MINUTE: Duration = Duration::from_mins(1);
const TEN_MINUTES: Duration = Duration::from_mins(10);

/// A breaker with a number of calls in its window.
#[derive(Debug)]
pub struct Filled {
    pub owner: &'static str,
    pub window: Duration,
    pub calls: usize,
}

impl Filled {
    pub fn id(&self) -> String {
        format!("filled/{}/{}s/{}", self.owner, self.window.as_secs(), self.calls)
    }

    pub fn make(&self) -> Instance {
        match self.owner {
            "mainstay" => filled(ours::breaker(BreakerConfig::default().window(self.window)).0, self.calls),
            _ => filled(peers::time_window(self.window).layer(Noop::<Boom>::new()), self.calls),
        }
    }
}

fn filled<S>(service: S, calls: usize) -> Instance
where
    S: tower::Service<Req> + Clone + Send + 'static,
{
    runtime().block_on(drive(service.clone(), calls, true, requests(Baseline::Plain)));
    shared(service, Baseline::Plain)
}

/// The compared rows.
pub fn all() -> Vec<Filled> {
    let row = |owner, window, calls| Filled { owner, window, calls };
    vec![
        row("mainstay", MINUTE, 100),
        row("mainstay", MINUTE, 1_000),
        row("mainstay", MINUTE, 10_000),
        row("mainstay", MINUTE, 50_000),
        row("mainstay", TEN_MINUTES, 10_000),
        row("tower-resilience", MINUTE, 100),
        row("tower-resilience", MINUTE, 1_000),
        row("tower-resilience", MINUTE, 10_000),
        row("tower-resilience", MINUTE, 50_000),
    ]
}
