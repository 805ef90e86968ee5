//! What must hold on any machine, however busy: allocations, instructions that do not grow, traps that are not fallen
//! into. No time is measured.

use anyhow::{Context as _, ensure};
use layer_benches::growth;
use layer_benches::traps::{self, Caught};

use crate::measure;

/// Allocations that a row may add to the bare call of its kind.
const MOST_ALLOCATIONS: [(&str, &str, f64); 13] = [
    ("breaker/mainstay/breaker", PLAIN, 0.0),
    ("timeout/mainstay/total-deadline", PLAIN, 0.0),
    ("retry-with-budget/mainstay/retry", PLAIN, 0.0),
    ("concurrency-limit/mainstay/bulkhead", PLAIN, 0.0),
    ("concurrency-limit/mainstay/shed-fixed", CONTEXT, 0.0),
    ("adaptive-limit/mainstay/shed-gradient", CONTEXT, 0.0),
    ("adaptive-limit/mainstay/shed-AIMD", CONTEXT, 0.0),
    ("only-here/mainstay/throttle", PLAIN, 0.0),
    // The request, which every layer outside would otherwise move once more.
    ("timeout/mainstay/attempt-timeout", PLAIN, 1.0),
    // Why it refuses is put into words for a request that keeps them, or a subscriber; here is neither.
    ("open-breakers-refusal/mainstay/breaker", PLAIN, 0.0),
    // The boxed request, six headers in their map with one value that is no literal, and the record of the attempt.
    ("client-stack/mainstay/all-layers", CONTEXT, 6.0),
    ("server-stack/mainstay/all-layers-fixed-limit", INCOMING, 13.0),
    ("server-stack/mainstay/all-layers-gradient", INCOMING, 13.0),
];

const PLAIN: &str = "none//bare-call";
const CONTEXT: &str = "none//with-a-request-context";
const INCOMING: &str = "none//with-headers";

pub(crate) fn check() -> anyhow::Result<()> {
    allocations()?;
    instructions()?;
    caught()
}

fn allocations() -> anyhow::Result<()> {
    let allocations = crate::allocations()?;
    let of = |id: &str| allocations.get(id).map(|(count, _)| *count).with_context(|| format!("no row {id}"));
    for (id, baseline, most) in MOST_ALLOCATIONS {
        let added = of(id)? - of(baseline)?;
        println!("{id}: {added} allocations a call, at most {most}");
        // A map or a list that grows once in a thousand calls is not one for each.
        ensure!(added <= most + 0.01, "{id} allocates {added} times a call, more than {most}");
    }
    Ok(())
}

/// The same instructions whatever the window holds, and however long it is.
fn instructions() -> anyhow::Result<()> {
    let ours: Vec<_> = growth::all()
        .into_iter()
        .filter(|f| f.owner == "mainstay" && f.calls <= 10_000)
        .map(|f| f.id())
        .collect();
    let counts = measure::in_pairs(&ours, |id| least(id));
    let counts: Vec<f64> = counts.into_iter().collect::<Result<_, _>>()?;
    for (id, count) in ours.iter().zip(&counts) {
        println!("{id}: {count:.0} instructions a call");
        ensure!(
            (count - counts[0]).abs() <= counts[0] / 50.0,
            "{id}: a call costs {count}, not {}",
            counts[0]
        );
    }
    Ok(())
}

/// The least of three counts: what the clock brings about on a slow machine, such as a slot of the window that begins
/// meanwhile, only adds to one.
fn least(id: &str) -> anyhow::Result<f64> {
    let mut least = f64::INFINITY;
    for _ in 0..3 {
        least = least.min(measure::instructions(id)?);
    }
    Ok(least)
}

fn caught() -> anyhow::Result<()> {
    let caught = traps::set();
    let ours = caught.iter().find(|caught| caught.name == "mainstay").context("ours is among them")?;
    let Caught { failures_to_open, probes, straggler_closes, .. } = ours;
    println!(
        "breaker: opens after {failures_to_open:?}, probes {probes}, straggler closes {straggler_closes:?}"
    );
    ensure!(failures_to_open.is_some_and(|failures| failures <= 20), "10,000 successes hide 20 failures");
    ensure!(*probes == 1, "{probes} probes at once, one was asked for");
    ensure!(*straggler_closes == Some(false), "a call from before it opened closes it");
    Ok(())
}
