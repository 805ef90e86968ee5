//! Scenario: load above the capacity. It measures goodput, latency and refusals.

use std::time::Duration;

use http_body_util::Full;
use mainstay::classify;
use mainstay::client::ClientRequest;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tower::ServiceExt as _;

use super::Lab;
use crate::arm::{Arm, Layer};
use crate::figures::{goodput, latency_ms, share};
use crate::load::{End, Load};
use crate::plot::Plot;
use crate::report::percent;
use crate::settings::WORKERS;
use crate::stage::{Plan, Stage};

/// Measures the peak rate of the bare service: two callers per worker, each with one request at a time.
pub(super) async fn peak(lab: &mut Lab) -> anyhow::Result<()> {
    lab.progress("peak of the bare service");
    let stage = Stage::build(Plan::new(Arm::Control)).await?;
    let seconds = if lab.quick { 2.0 } else { 4.0 };
    let until = Instant::now() + Duration::from_secs_f64(seconds);
    let mut callers = JoinSet::new();
    for n in 0..2 * WORKERS {
        let caller = stage.clients[n % stage.clients.len()].caller.clone();
        let uri: http::Uri = format!("http://{}/{n}", stage.services[0].address).parse()?;
        callers.spawn(async move {
            let mut good = 0_u32;
            while Instant::now() < until {
                let mut request = ClientRequest::new(Full::default());
                uri.clone_into(request.uri_mut());
                let result = caller.clone().oneshot(request).await;
                good += u32::from(classify::outcome(&result) == mainstay::Outcome::Success);
            }
            good
        });
    }
    let done: u32 = callers.join_all().await.into_iter().sum();
    lab.peak = f64::from(done) / seconds;
    lab.report.compare("peak of the bare service, closed loop", format!("{:.0} a second", lab.peak));
    Ok(())
}

struct Outcome {
    goodput: f64,
    p50: f64,
    p99: f64,
    refused: f64,
    failed: f64,
    unsent: f64,
}

async fn measure(lab: &mut Lab, arm: Arm, factor: f64, warm: f64, seconds: f64) -> anyhow::Result<Outcome> {
    let stage = Stage::build(Plan::new(arm)).await?;
    let end = warm + seconds;
    let records = stage.run(&Load::steady(factor * lab.peak, end), &[]).await?;
    if matches!(arm, Arm::All { .. }) {
        lab.add_started(&stage);
    }
    Ok(Outcome {
        goodput: goodput(&records, warm, end) / lab.peak,
        p50: latency_ms(&records, 0.5, warm, end),
        p99: latency_ms(&records, 0.99, warm, end),
        refused: share(&records, End::Refused, warm, end),
        failed: share(&records, End::Failed, warm, end),
        unsent: share(&records, End::Unsent, warm, end),
    })
}

impl Outcome {
    fn text(&self) -> String {
        let unsent =
            if self.unsent > 0.0 { format!(", {} not sent", percent(self.unsent)) } else { String::new() };
        let times = if self.p99.is_nan() {
            "no success to time".to_owned()
        } else {
            format!("p50 {:.0} ms, p99 {:.0} ms", self.p50, self.p99)
        };
        let (goodput, refused, failed) = (percent(self.goodput), percent(self.refused), percent(self.failed));
        format!("{goodput} of peak; {times}; {refused} refused, {failed} failed{unsent}")
    }
}

pub(super) async fn run(lab: &mut Lab) -> anyhow::Result<()> {
    let seconds = if lab.quick { 3.0 } else { 4.0 };
    lab.progress("all on, 0.2 times capacity");
    let all_on = lab.all_on();
    let unloaded = measure(lab, all_on, 0.2, 1.0, seconds).await?;
    lab.report.compare("all on, 0.2 times capacity", unloaded.text());
    // The claims of the short form must also hold on a machine with other work.
    let most = if lab.quick { 5.0 } else { 10.0 };
    let factors: &[f64] = if lab.quick { &[5.0] } else { &[1.0, 2.0, 5.0, 10.0] };
    let mut arms = vec![("control", Arm::Control), ("all on", all_on)];
    if !lab.quick {
        arms.push(("all on, adaptive limit", lab.adaptive()));
    }
    let mut goodputs =
        plot("Goodput under overload, % of peak", "offered load, times capacity", "% of peak", false);
    let mut tails = plot("p99 of successful requests", "offered load, times capacity", "ms", true);
    let mut at_most = Vec::new();
    for (name, arm) in arms {
        let (mut good, mut tail) = (Vec::new(), Vec::new());
        for factor in factors {
            lab.progress(&format!("{name}, {factor} times capacity"));
            // An adaptive limit needs time to find its value.
            let warm = if arm == lab.adaptive() { 4.0 } else { 1.5 };
            let outcome = measure(lab, arm, *factor, warm, seconds).await?;
            good.push((*factor, outcome.goodput * 100.0));
            tail.push((*factor, outcome.p99));
            lab.report.compare(format!("{name}, {factor} times capacity"), outcome.text());
            if *factor == most {
                at_most.push(outcome);
            }
        }
        goodputs.lines.push((name.to_owned(), good));
        tails.lines.push((name.to_owned(), tail));
    }
    let (control, all) = (&at_most[0], &at_most[1]);
    lab.report.goal(
        format!("goodput at {most} times capacity, all on: at least 95 % of peak"),
        percent(all.goodput),
        all.goodput >= 0.95,
    );
    let ratio = all.p99 / unloaded.p99;
    let text = format!("{:.0} ms, {ratio:.2} times {:.0} ms", all.p99, unloaded.p99);
    lab.report.goal(
        format!("p99 of admitted requests at {most} times capacity: at most twice the unloaded"),
        text,
        ratio <= 2.0,
    );
    lab.report.goal(
        format!("the control collapses at {most} times capacity: less than 50 % of peak"),
        percent(control.goodput),
        control.goodput < 0.5,
    );
    if lab.quick {
        lab.report.claim(all.goodput >= 0.6, "goodput at 5 times capacity is at least 60 % of peak");
        lab.report.claim(
            all.p99 <= 5.0 * unloaded.p99,
            "p99 of admitted requests at 5 times capacity is at most 5 times the unloaded",
        );
        lab.report.claim(
            control.goodput <= 0.5,
            "goodput of the control at 5 times capacity is at most 50 % of peak",
        );
        return Ok(());
    }
    goodputs.write(&lab.report.out, "overload-goodput")?;
    tails.write(&lab.report.out, "overload-p99")?;
    for layer in Layer::ALL {
        lab.progress(&format!("{} alone, 10 times capacity", layer.as_str()));
        let outcome = measure(lab, Arm::Alone(layer), 10.0, 1.5, 4.0).await?;
        lab.report.compare(format!("{} alone, 10 times capacity", layer.as_str()), outcome.text());
    }
    Ok(())
}

fn plot(title: &str, x: &'static str, y: &'static str, logarithmic: bool) -> Plot {
    Plot { title: title.to_owned(), x, y, logarithmic, ..Plot::default() }
}
