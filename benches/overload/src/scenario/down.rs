//! Scenario: the dependency is down. It measures the attempts per client request.

use super::Lab;
use crate::arm::{Arm, Layer};
use crate::figures::due;
use crate::load::Load;
use crate::service::Trouble;
use crate::stage::{Event, Plan, Stage};

const BEFORE: f64 = 3.0;
/// Load as a share of the capacity: half, because the scenario counts attempts and not queueing.
const LOAD: f64 = 0.5;

/// Attempts per request during the whole outage, and without its first `first` seconds.
async fn attempts(
    lab: &Lab,
    arm: Arm,
    trouble: Trouble,
    lasts: f64,
    first: f64,
) -> anyhow::Result<(f64, f64)> {
    let stage = Stage::build(Plan::new(arm)).await?;
    let events = [Event::Trouble { at: BEFORE, endpoint: 0, trouble }];
    let end = BEFORE + lasts;
    let records = stage.run(&Load::steady(LOAD * lab.peak, end), &events).await?;
    let each = |from, to| stage.attempts.between(from, to) / due(&records, from, to);
    Ok((each(BEFORE, end), each(BEFORE + first, end)))
}

pub(super) async fn run(lab: &mut Lab) -> anyhow::Result<()> {
    let (lasts, first) = if lab.quick { (4.0, 2.0) } else { (16.0, 10.0) };
    let all_on = lab.all_on();
    let mut arms = vec![all_on];
    if !lab.quick {
        arms.extend([Arm::Control, Arm::Alone(Layer::Budget), Arm::Alone(Layer::Breaker)]);
    }
    for arm in arms {
        let name = arm.name();
        lab.progress(&format!("{name}: the dependency is down for {lasts} s in four ways, or fails a third"));
        // These figures are counts and not times, so the runs can share the machine.
        let each = tokio::try_join!(
            attempts(lab, arm, Trouble::Refuses, lasts, first),
            attempts(lab, arm, Trouble::Stalls, lasts, first),
            attempts(lab, arm, Trouble::Fails, lasts, first),
            attempts(lab, arm, Trouble::Sheds, lasts, first),
            attempts(lab, arm, Trouble::FailsSome, lasts, first),
        )?;
        let down = [("refuses", each.0), ("hangs", each.1), ("500", each.2), ("503", each.3)];
        let list: Vec<_> =
            down.iter().map(|(how, (all, late))| format!("{how} {all:.2}, later {late:.2}")).collect();
        lab.report.compare(format!("attempts per request, dependency down, {name}"), list.join("; "));
        let by_a_third = each.4.0;
        lab.report.compare(
            format!("attempts per request, a third of the answers 500, {name}"),
            format!("{by_a_third:.2}"),
        );
        if arm != all_on {
            continue;
        }
        let worst = |of: fn(&(f64, f64)) -> f64| down.iter().map(|(_, each)| of(each)).fold(0.0, f64::max);
        let (all, late) = (worst(|each| each.0), worst(|each| each.1));
        let goal = "attempts per client request, dependency down, all on, worst kind: at most 1.10";
        lab.report.goal(goal, format!("{all:.2}"), all <= 1.10);
        lab.report.goal(
            format!("attempts per client request after {first} s of it: at most 1.05"),
            format!("{late:.2}"),
            late <= 1.05,
        );
        if lab.quick {
            lab.report
                .claim(late <= 0.7, "in every kind of outage, after 2 s at most 7 attempts per 10 requests");
            lab.report.claim(by_a_third <= 1.3, "a third of failures costs at most 30 % more attempts");
        }
    }
    Ok(())
}
