//! Scenario: the dependency stalls for ten seconds near its capacity.
//!
//! It measures whether service recovers by itself, how soon, and up to which load.

use super::Lab;
use crate::arm::{Arm, Layer};
use crate::figures::{healed_after, latency_ms, steps, success};
use crate::load::{Load, Record};
use crate::plot::Plot;
use crate::report::seconds;
use crate::service::Trouble;
use crate::stage::{Event, Plan, Stage};

const BEFORE: f64 = 4.0;

struct Times {
    /// End of the outage.
    healed: f64,
    end: f64,
}

async fn outage(lab: &Lab, arm: Arm, load: f64, times: &Times) -> anyhow::Result<(Vec<Record>, Option<f64>)> {
    let stage = Stage::build(Plan::new(arm)).await?;
    let events = [
        Event::Trouble { at: BEFORE, endpoint: 0, trouble: Trouble::Stalls },
        Event::Trouble { at: times.healed, endpoint: 0, trouble: Trouble::Nothing },
    ];
    let records = stage.run(&Load::steady(load * lab.peak, times.end), &events).await?;
    let usual = success(&records, 1.0, BEFORE - 0.5).unwrap_or(0.0);
    let after = healed_after(&records, usual, times.healed, times.end);
    Ok((records, after))
}

pub(super) async fn run(lab: &mut Lab) -> anyhow::Result<()> {
    let lasts = if lab.quick { 3.0 } else { 10.0 };
    let watched = if lab.quick { 7.0 } else { 16.0 };
    let times = Times { healed: BEFORE + lasts, end: BEFORE + lasts + watched };
    let all_on = lab.all_on();
    let mut shares = Plot {
        title: format!("The dependency stalls for {lasts:.0} s at 93 % load"),
        x: "seconds",
        y: "% of requests that succeed",
        shaded: vec![(BEFORE, times.healed, "outage")],
        ..Plot::default()
    };
    let mut tails = Plot {
        title: "p99 of successful requests, around the same outage".to_owned(),
        x: "seconds",
        y: "ms",
        logarithmic: true,
        shaded: vec![(BEFORE, times.healed, "outage")],
        ..Plot::default()
    };
    lab.progress(&format!("all on: the dependency stalls for {lasts} s at 93 % load"));
    let mut runs = vec![("all on", all_on, outage(lab, all_on, 0.93, &times).await?)];
    if !lab.quick {
        // These figures are in seconds and not in milliseconds, so the runs can share the machine. The same holds for
        // the groups of `sweep`.
        lab.progress("control and adaptive limit: the same outage");
        let adaptive = lab.adaptive();
        let (control, adapted) =
            tokio::try_join!(outage(lab, Arm::Control, 0.93, &times), outage(lab, adaptive, 0.93, &times))?;
        runs.push(("control", Arm::Control, control));
        runs.push(("all on, adaptive limit", adaptive, adapted));
    }
    for (name, arm, (records, after)) in runs {
        let text = seconds(after, watched - 1.0);
        let within = |most| after.is_some_and(|after| after <= most);
        if arm == all_on {
            lab.report.goal(
                format!("an outage of {lasts} s at 93 % load, all on: recovers by itself within 5 s"),
                text,
                within(5.0),
            );
            if lab.quick {
                lab.report.claim(within(5.5), "service recovers by itself after an outage at 93 % load");
            }
        } else {
            lab.report.compare(format!("an outage of {lasts} s at 93 % load, {name}"), text);
        }
        let at = |from: f64| success(&records, from, from + 0.25).map(|share| (from + 0.125, share * 100.0));
        shares.lines.push((name.to_owned(), steps(0.0, times.end - 0.25, 0.25).filter_map(at).collect()));
        let at = |from: f64| (from + 0.25, latency_ms(&records, 0.99, from, from + 0.5));
        tails.lines.push((name.to_owned(), steps(0.0, times.end - 0.5, 0.5).map(at).collect()));
    }
    if lab.quick {
        return Ok(());
    }
    shares.write(&lab.report.out, "outage-success")?;
    tails.write(&lab.report.out, "outage-p99")?;
    sweep(lab, &times, watched).await
}

/// Runs the outage at other loads and with each layer alone.
async fn sweep(lab: &mut Lab, times: &Times, watched: f64) -> anyhow::Result<()> {
    let all_on = lab.all_on();
    let mut group = async |name: &str, arms: [(Arm, f64); 3]| {
        lab.progress(&format!("the same outage with {name}"));
        let each = tokio::try_join!(
            outage(lab, arms[0].0, arms[0].1, times),
            outage(lab, arms[1].0, arms[1].1, times),
            outage(lab, arms[2].0, arms[2].1, times),
        )?;
        for ((arm, load), (_, after)) in arms.into_iter().zip([each.0, each.1, each.2]) {
            let row = format!("the outage at {:.0} % load, {}", load * 100.0, arm.name());
            lab.report.compare(row, seconds(after, watched - 1.0));
        }
        anyhow::Ok(())
    };
    group("all on", [0.97, 1.0, 1.1].map(|load| (all_on, load))).await?;
    group("the control", [0.3, 0.4, 0.6].map(|load| (Arm::Control, load))).await?;
    let alone = [Layer::Limit, Layer::Budget, Layer::Breaker].map(|layer| (Arm::Alone(layer), 0.93));
    group("one layer alone", alone).await
}
