//! Scenario: the dependency recovers after it was down. It measures how soon all requests are served, and the arrivals
//! at the recovering dependency.

use super::Lab;
use crate::arm::Arm;
use crate::figures::{due, healed_after, steps, success};
use crate::load::Load;
use crate::plot::Plot;
use crate::report::seconds;
use crate::service::Trouble;
use crate::stage::{Event, Plan, Stage};

const BEFORE: f64 = 3.0;
const LOAD: f64 = 0.8;
/// Span over which arrivals are counted, in seconds.
const SPAN: f64 = 0.25;

struct Return {
    after: Option<f64>,
    /// Most arrivals per due request, over any span after the end of the trouble.
    overshoot: f64,
    arrivals: Vec<(f64, f64)>,
}

async fn back_from(
    lab: &Lab,
    arm: Arm,
    trouble: Trouble,
    (lasts, watched): (f64, f64),
) -> anyhow::Result<Return> {
    let stage = Stage::build(Plan::new(arm)).await?;
    let healed = BEFORE + lasts;
    let end = healed + watched;
    let events = [
        Event::Trouble { at: BEFORE, endpoint: 0, trouble },
        Event::Trouble { at: healed, endpoint: 0, trouble: Trouble::Nothing },
    ];
    let records = stage.run(&Load::steady(LOAD * lab.peak, end), &events).await?;
    let usual = success(&records, 1.0, BEFORE - 0.5).unwrap_or(0.0);
    let each = |from: f64| stage.arrivals(from, from + SPAN) / due(&records, from, from + SPAN);
    let arrivals = steps(1.0, end - SPAN, SPAN).map(|from| (from - healed, each(from))).collect();
    Ok(Return {
        after: healed_after(&records, usual, healed, end),
        overshoot: steps(healed, healed + 5.0, 0.05).map(each).fold(0.0, f64::max),
        arrivals,
    })
}

pub(super) async fn run(lab: &mut Lab) -> anyhow::Result<()> {
    let (lasts, watched) = if lab.quick { (3.0, 6.0) } else { (10.0, 8.0) };
    let all_on = lab.all_on();
    let mut plot = Plot {
        title: format!("Arrivals at a dependency that stalled for {lasts:.0} s"),
        x: "seconds after its recovery",
        y: "arrivals per request",
        shaded: vec![(-lasts, 0.0, "outage")],
        ..Plot::default()
    };
    let arms: &[_] =
        if lab.quick { &[("all on", all_on)] } else { &[("control", Arm::Control), ("all on", all_on)] };
    for (name, arm) in arms {
        lab.progress(&format!("{name}: the dependency recovers after {lasts} s, from four kinds of outage"));
        let back = |trouble| back_from(lab, *arm, trouble, (lasts, watched));
        let each = tokio::try_join!(
            back(Trouble::Refuses),
            back(Trouble::Stalls),
            back(Trouble::Fails),
            back(Trouble::Sheds)
        )?;
        plot.lines.push(((*name).to_owned(), each.1.arrivals.clone()));
        for (how, back) in
            [("refused", each.0), ("hung", each.1), ("answered 500", each.2), ("answered 503", each.3)]
        {
            let text = format!("{}; overshoot {:.2}", seconds(back.after, watched - 1.0), back.overshoot);
            let row = format!(
                "recovery after the dependency {how}, {name}: 95 % served within 2 s, at most 1.1 arrivals per request"
            );
            let within = |most| back.after.is_some_and(|after| after <= most);
            if *arm == all_on {
                lab.report.goal(row, text, within(2.0) && back.overshoot <= 1.1);
            } else {
                lab.report.compare(row, text);
            }
            if lab.quick {
                lab.report.claim(
                    within(4.9),
                    format!("requests are served within 5 s after an outage in which the dependency {how}"),
                );
            }
        }
    }
    if lab.quick { Ok(()) } else { plot.write(&lab.report.out, "heal-arrivals") }
}
