//! Observations from outside: the first 202, the state of the order service's circuit breaker, and the moment when no
//! order waits any more.

use std::time::Duration;

use local::Service;
use local::pair::RunningPair;
use replay::{Client, Tally};
use serde::Deserialize;
use tokio::sync::mpsc::UnboundedSender;
use tokio::time::{MissedTickBehavior, interval};

const LOOK_EVERY: Duration = Duration::from_millis(100);

#[derive(Debug, Deserialize)]
struct Breakers {
    items: Vec<Breaker>,
}

#[derive(Debug, Deserialize)]
struct Breaker {
    state: String,
}

/// Watches until the future is dropped.
pub(super) fn watch(
    pair: &RunningPair,
    tally: &Tally,
    say: &UnboundedSender<String>,
) -> anyhow::Result<impl Future<Output = ()>> {
    let url = pair.ops_url(Service::Order);
    let operations = Client::new("order-operations", &url, Some(&pair.tokens().operator.secret))?;
    Ok(async move {
        let mut tick = interval(LOOK_EVERY);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut state = "closed".to_owned();
        let (mut accepted, mut waiting) = (0, 0);
        loop {
            tick.tick().await;
            // A read that fails is repeated at the next tick.
            if let Ok(breakers) = operations.get_json::<Breakers>("/admin/v1/breakers").await
                && let Some(breaker) = breakers.items.into_iter().next()
                && breaker.state != state
            {
                announce(say, &breaker_moved(&state, &breaker.state));
                state = breaker.state;
            }
            let (accepted_now, waiting_now) = tally.read(|counts| (counts.accepted, counts.waiting));
            if accepted == 0 && accepted_now > 0 {
                announce(say, "the first order is answered 202: accepted, not decided yet, and never lost");
            }
            if waiting > 0 && waiting_now == 0 {
                announce(
                    say,
                    &format!(
                        "no order waits any more: all {accepted_now} requests that got a 202 are decided"
                    ),
                );
            }
            (accepted, waiting) = (accepted_now, waiting_now);
        }
    })
}

fn breaker_moved(before: &str, now: &str) -> String {
    let what = match now {
        "open" if before == "closed" => "opens: no call waits for a dead service",
        "open" => "opens again: the probes failed",
        "half-open" => "lets a few probe calls through",
        "ramping" => "lets more and more calls through",
        "closed" => "is closed: every call is let through",
        other => other,
    };
    format!("  the order service's circuit breaker {what}")
}

fn announce(say: &UnboundedSender<String>, line: &str) {
    // The receiver is gone only when the demo is ending.
    let _receiver_is_gone_at_the_end = say.send(line.to_owned());
}
