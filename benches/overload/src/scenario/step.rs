//! Scenario: a step of the load. It measures how soon goodput reaches its plateau, and how soon all requests are served
//! after the load has gone back.

use super::Lab;
use crate::arm::Arm;
use crate::figures::{goodput, steps, success};
use crate::load::{Load, Phase, Record};
use crate::plot::Plot;
use crate::report::seconds;
use crate::stage::{Plan, Stage};

/// Length of the step in seconds. The quiet phase before it has the same length.
const HALF: f64 = 2.0;
/// Load of the quiet phase, as a share of the capacity.
const QUIET: f64 = 0.5;
/// Part of the quiet phase in which a complete span of 250 ms can begin, in seconds.
const WATCHED: f64 = HALF - 0.25;
/// Span over which goodput is counted, in seconds: ten times the time of a request.
///
/// Workers that finish together at either end of a span change its goodput. With this length and averaged over the
/// repeats, the change is less than the 5 % of the goal.
const SPAN: f64 = 0.2;

/// Goodput in a span that begins `at` seconds after the step, averaged over the repeats.
fn around(records: &[Record], repeats: u32, at: f64, span: f64) -> f64 {
    let step = |n: u32| 2.0 * HALF * f64::from(n) + HALF;
    let sum: f64 = (0..repeats).map(|n| goodput(records, step(n) + at, step(n) + at + span)).sum();
    sum / f64::from(repeats)
}

/// Time from which every span has at least 95 % of the plateau's goodput. The plateau is the second half of the step.
fn settled(records: &[Record], repeats: u32) -> f64 {
    let plateau = around(records, repeats, HALF / 2.0, HALF / 2.0);
    let off = |from: &f64| around(records, repeats, *from, SPAN) < 0.95 * plateau;
    steps(0.0, HALF - SPAN, 0.01).filter(off).last().map_or(0.0, |last| last + 0.01)
}

async fn step(lab: &mut Lab, arm: Arm, factor: f64, repeats: u32) -> anyhow::Result<Vec<Record>> {
    let stage = Stage::build(Plan::new(arm)).await?;
    let phase = |factor: f64| Phase { rate: factor * lab.peak, seconds: HALF };
    let phases = (0..repeats).flat_map(|_| [phase(QUIET), phase(factor)]).chain([phase(QUIET)]).collect();
    let records = stage.run(&Load::of(phases), &[]).await?;
    if matches!(arm, Arm::All { .. }) {
        lab.add_started(&stage);
    }
    Ok(records)
}

pub(super) async fn run(lab: &mut Lab) -> anyhow::Result<()> {
    let repeats = 6;
    let all_on = lab.all_on();
    let mut plot = Plot {
        title: "A step from 0.5 to 10 times capacity".to_owned(),
        x: "seconds after the step",
        y: "goodput, % of peak",
        shaded: vec![(0.0, HALF, "10 times capacity")],
        ..Plot::default()
    };
    for factor in [1.4, 10.0] {
        lab.progress(&format!("all on: steps to {factor} times capacity"));
        let records = step(lab, all_on, factor, repeats).await?;
        let after = settled(&records, repeats);
        let met = after <= 0.25;
        lab.report.goal(
            format!("a step to {factor} times capacity, all on: within 5 % of the plateau in 250 ms"),
            format!("{:.0} ms", after * 1_000.0),
            met,
        );
        let back = settled_back(&records, repeats);
        lab.report.goal(
            format!("a step back from {factor} to {QUIET} times, all on: 95 % served again within 2 s"),
            seconds(back, WATCHED),
            back.is_some_and(|back| back <= 2.0),
        );
        if factor == 10.0 {
            plot.lines.push(("all on".to_owned(), curve(lab, &records, repeats)));
        }
    }
    lab.progress("control: a step to 10 times capacity");
    let records = step(lab, Arm::Control, 10.0, 2).await?;
    lab.report.compare(
        "a step back from 10 to 0.5 times, control: 95 % served again",
        seconds(settled_back(&records, 2), WATCHED),
    );
    plot.lines.push(("control".to_owned(), curve(lab, &records, 2)));
    plot.write(&lab.report.out, "step-goodput")
}

/// Time after the step back from which at least 95 % of the requests of every quarter of a second are served.
fn settled_back(records: &[Record], repeats: u32) -> Option<f64> {
    let served = |from: f64| {
        let back = |n: u32| 2.0 * HALF * f64::from(n + 1);
        let shares = (0..repeats).filter_map(|n| success(records, back(n) + from, back(n) + from + 0.25));
        shares.sum::<f64>() / f64::from(repeats)
    };
    let bad = steps(0.0, WATCHED, 0.05).filter(|from| served(*from) < 0.95).last();
    let back = bad.map_or(0.0, |bad| bad + 0.05);
    (back < WATCHED).then_some(back)
}

fn curve(lab: &Lab, records: &[Record], repeats: u32) -> Vec<(f64, f64)> {
    let at = |from: f64| (from + SPAN / 2.0, around(records, repeats, from, SPAN) / lab.peak * 100.0);
    steps(-1.5, 2.0 * HALF - SPAN, 0.05).map(at).collect()
}
