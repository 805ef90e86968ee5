//! Scenario: many requests for one key.
//!
//! Reads of one key can share a call. Requests that a lock serializes cannot, and they must not occupy every worker
//! while they wait for the lock.

use super::Lab;
use crate::arm::{Arm, Extras};
use crate::figures::{goodput, latency_ms, success};
use crate::load::{Load, Record};
use crate::report::percent;
use crate::stage::{Plan, Stage};

const WARM: f64 = 1.0;
const END: f64 = 5.0;

async fn measure(lab: &mut Lab, plan: Plan, load: f64, hot: f64) -> anyhow::Result<Vec<Record>> {
    let stage = Stage::build(plan).await?;
    let load = Load { hot, ..Load::steady(load * lab.peak, END) };
    let records = stage.run(&load, &[]).await?;
    if matches!(plan.arm, Arm::All { .. }) {
        lab.add_started(&stage);
    }
    Ok(records)
}

pub(super) async fn run(lab: &mut Lab) -> anyhow::Result<()> {
    let all_on = lab.all_on();
    let coalesce = Extras { coalesce: true, ..Extras::default() };
    let quota = Extras { quota_per_key: true, ..Extras::default() };

    // Reads at twice the capacity, three quarters of them of one key, through one client.
    for (name, arm, extras) in [
        ("control", Arm::Control, Extras::default()),
        ("all on", all_on, Extras::default()),
        ("all on and coalescing", all_on, coalesce),
    ] {
        lab.progress(&format!("{name}: twice the capacity, three quarters of it reads of one key"));
        let plan = Plan { clients: 1, extras, ..Plan::new(arm) };
        let records = measure(lab, plan, 2.0, 0.75).await?;
        let served = success(&records, WARM, END).unwrap_or(0.0);
        let text = format!(
            "{} succeed, {} of peak",
            percent(served),
            percent(goodput(&records, WARM, END) / lab.peak)
        );
        let row = format!("2 times capacity, 75 % reads of one key, {name}");
        if extras.coalesce {
            lab.report.goal(format!("{row}: at least 95 % served"), text, served >= 0.95);
        } else {
            lab.report.compare(row, text);
        }
    }

    // Half of the load is for one key whose requests a lock serializes. Such a key has about a tenth of the capacity.
    let mut usual = f64::NAN;
    for (name, arm, hot, extras) in [
        ("all on, no hot key", all_on, 0.0, Extras::default()),
        ("control", Arm::Control, 0.5, Extras::default()),
        ("all on", all_on, 0.5, Extras::default()),
        ("all on and a quota for each key", all_on, 0.5, quota),
    ] {
        lab.progress(&format!("{name}: half capacity, half of it for one key that is locked"));
        let plan = Plan { extras, hot_lock: true, ..Plan::new(arm) };
        let records = measure(lab, plan, 0.5, hot).await?;
        let others: Vec<_> = records.iter().filter(|r| !r.hot).copied().collect();
        let served = success(&others, WARM, END).unwrap_or(0.0);
        let p99 = latency_ms(&others, 0.99, WARM, END);
        let done = goodput(&records, WARM, END);
        if hot == 0.0 {
            usual = p99;
        }
        let text = format!("others: {} succeed, p99 {p99:.0} ms; {done:.0} a second in all", percent(served));
        let row = format!("half capacity, half of it for one locked key, {name}");
        if extras.quota_per_key {
            let goal = "others' p99 at most 1.2 times the usual, 99 % served";
            lab.report.goal(format!("{row}: {goal}"), text, served >= 0.99 && p99 <= 1.2 * usual);
        } else {
            lab.report.compare(row, text);
        }
    }
    Ok(())
}
