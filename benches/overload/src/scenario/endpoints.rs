//! Scenario: one of five endpoints is dead, hangs or is slow. It measures the requests to the other four.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use mainstay::Endpoint;
use mainstay::breaker::BreakerState;
use tokio::task::JoinSet;

use super::Lab;
use crate::arm::Arm;
use crate::figures::{latency_ms, steps, success};
use crate::load::{Load, Record};
use crate::plot::Plot;
use crate::report::percent;
use crate::service::{Trouble, WORK};
use crate::stage::{Event, Plan, Stage};

const ENDPOINTS: usize = 5;
/// Load as a share of the capacity of all five endpoints.
const LOAD: f64 = 0.3;
const BEFORE: f64 = 3.0;
const AFTER: f64 = 3.0;

/// Transitions of one breaker: it stops traffic, or it lets traffic pass again. A failed probe is no transition.
#[derive(Debug, Default)]
struct Changes(AtomicU32);

/// Counts the transitions of every breaker of every client. Returns each counter with the endpoint's index.
fn follow(stage: &Stage, watchers: &mut JoinSet<()>) -> Vec<(usize, Arc<Changes>)> {
    let mut all = Vec::new();
    for breakers in stage.clients.iter().filter_map(|client| client.breakers.as_ref()) {
        for (n, service) in stage.services.iter().enumerate() {
            let endpoint = Endpoint::parse(&service.address.to_string()).expect("an address is an endpoint");
            let mut states = breakers.endpoint(&endpoint).subscribe();
            let changes = Arc::new(Changes::default());
            all.push((n, Arc::clone(&changes)));
            watchers.spawn(async move {
                let mut passes = true;
                while states.changed().await.is_ok() {
                    let now = match *states.borrow_and_update() {
                        BreakerState::Closed | BreakerState::Ramping | BreakerState::ForcedClosed => true,
                        BreakerState::Open | BreakerState::HalfOpen | BreakerState::ForcedOpen => false,
                    };
                    if now != passes {
                        passes = now;
                        changes.0.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
    }
    all
}

struct Outcome {
    /// Success rate of the requests to the healthy four, during the trouble and after it.
    healthy: f64,
    /// p99 of the healthy four during the trouble, and before it.
    p99: (f64, f64),
    /// Most transitions of one breaker of the bad endpoint, and all transitions of the healthy endpoints' breakers.
    changes: (u32, u32),
    records: Vec<Record>,
}

async fn one_bad(lab: &Lab, arm: Arm, bad: &[Event; 2], end: f64) -> anyhow::Result<Outcome> {
    let stage = Stage::build(Plan { endpoints: ENDPOINTS, ..Plan::new(arm) }).await?;
    let mut watchers = JoinSet::new();
    let changes = follow(&stage, &mut watchers);
    let load = Load::steady(LOAD * ENDPOINTS as f64 * lab.peak, end);
    let records = stage.run(&load, bad).await?;
    watchers.shutdown().await;
    let healthy: Vec<Record> = records.iter().filter(|r| r.endpoint != 0).copied().collect();
    let count = |bad: bool| {
        let of = changes.iter().filter(move |(endpoint, _)| (*endpoint == 0) == bad);
        of.map(|(_, changes)| changes.0.load(Ordering::Relaxed))
    };
    Ok(Outcome {
        healthy: success(&healthy, BEFORE, end).unwrap_or(0.0),
        p99: (latency_ms(&healthy, 0.99, BEFORE, end - AFTER), latency_ms(&healthy, 0.99, 1.0, BEFORE)),
        changes: (count(true).max().unwrap_or(0), count(false).sum()),
        records,
    })
}

pub(super) async fn run(lab: &mut Lab) -> anyhow::Result<()> {
    let lasts = if lab.quick { 4.0 } else { 8.0 };
    let (ends, end) = (BEFORE + lasts, BEFORE + lasts + AFTER);
    let trouble = |trouble| {
        [
            Event::Trouble { at: BEFORE, endpoint: 0, trouble },
            Event::Trouble { at: ends, endpoint: 0, trouble: Trouble::Nothing },
        ]
    };
    let slower = |times: u32| {
        [
            Event::WorkTime { at: BEFORE, endpoint: 0, work: WORK * times },
            Event::WorkTime { at: ends, endpoint: 0, work: WORK },
        ]
    };
    let all_on = lab.all_on();
    let mut cases = vec![("dead", trouble(Trouble::Refuses))];
    if !lab.quick {
        cases.extend([("hanging", trouble(Trouble::Stalls)), ("ten times slower", slower(10))]);
    }
    let mut plot = Plot {
        title: "One of five endpoints is ten times slower".to_owned(),
        x: "seconds",
        y: "% of the slow endpoint's requests that succeed",
        shaded: vec![(BEFORE, ends, "slow")],
        ..Plot::default()
    };
    for (how, events) in cases {
        for (name, arm) in [("control", Arm::Control), ("all on", all_on)] {
            if lab.quick && arm == Arm::Control {
                continue;
            }
            lab.progress(&format!("{name}: one of five endpoints is {how} for {lasts} s"));
            let outcome = one_bad(lab, arm, &events, end).await?;
            let text = format!(
                "{:.2} % of the healthy four's requests succeed, p99 {:.0} ms (before: {:.0} ms); \
                 of the requests to all five {}",
                outcome.healthy * 100.0,
                outcome.p99.0,
                outcome.p99.1,
                percent(success(&outcome.records, BEFORE, ends).unwrap_or(0.0)),
            );
            if arm == all_on {
                let text = format!(
                    "{text}; transitions of a breaker: {}, of the healthy four's: {}",
                    outcome.changes.0, outcome.changes.1
                );
                let met = outcome.healthy >= 0.999 && outcome.changes.0 <= 2 && outcome.changes.1 == 0;
                let goal = "healthy four at least 99.9 %, at most 2 transitions a breaker";
                lab.report.goal(format!("one of five {how}, {name}: {goal}"), text, met);
            } else {
                lab.report.compare(format!("one of five {how}, {name}"), text);
            }
            if lab.quick {
                lab.report.claim(
                    outcome.healthy >= 0.97,
                    "with one of five dead, 97 % of the others' requests succeed",
                );
                lab.report.claim(outcome.changes.0 >= 1, "the dead endpoint's breaker opens");
            }
            if how == "ten times slower" {
                let slow: Vec<Record> = outcome.records.iter().filter(|r| r.endpoint == 0).copied().collect();
                let at =
                    |from: f64| success(&slow, from, from + 0.5).map(|share| (from + 0.25, share * 100.0));
                plot.lines.push((name.to_owned(), steps(0.0, end - 0.5, 0.5).filter_map(at).collect()));
            }
        }
    }
    if !lab.quick {
        plot.write(&lab.report.out, "slow-endpoint-success")?;
    }
    Ok(())
}
