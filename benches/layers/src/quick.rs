//! Checks that hold on any machine, also on a busy one: bounds on allocations, instructions that do not grow with the
//! window, and the breaker's faults. They measure no time.

use anyhow::{Context as _, ensure};
use layer_benches::growth;
use layer_benches::traps::{self, Caught};

use crate::measure;

/// Most allocations per call that a row may add to its baseline.
const MOST_ALLOCATIONS: [(&str, &str, f64); 13] = [
    ("breaker/mainstay/breaker", PLAIN, 0.0),
    ("timeout/mainstay/total-deadline", PLAIN, 0.0),
    ("retry-with-budget/mainstay/retry", PLAIN, 0.0),
    ("concurrency-limit/mainstay/bulkhead", PLAIN, 0.0),
    ("concurrency-limit/mainstay/shed-fixed", CONTEXT, 0.0),
    ("adaptive-limit/mainstay/shed-gradient", CONTEXT, 0.0),
    ("adaptive-limit/mainstay/shed-AIMD", CONTEXT, 0.0),
    ("only-here/mainstay/throttle", PLAIN, 0.0),
    // The request is boxed, because every outer layer would otherwise move it once more.
    ("timeout/mainstay/attempt-timeout", PLAIN, 1.0),
    // The text of the refusal is formatted only for a request with a decision trail or for a subscriber. This row has
    // neither.
    ("open-breakers-refusal/mainstay/breaker", PLAIN, 0.0),
    // The boxed request, the map of six headers with one value that is not a literal, and the record of the attempt.
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
    faults()
}

fn allocations() -> anyhow::Result<()> {
    let allocations = crate::allocations()?;
    let of = |id: &str| {
        allocations.get(id).map(|(count, _)| *count).with_context(|| format!("no row has the id {id}"))
    };
    for (id, baseline, most) in MOST_ALLOCATIONS {
        let added = of(id)? - of(baseline)?;
        println!("{id}: {added} allocations a call, at most {most}");
        // Allow for a map or list that grows once in a thousand calls.
        ensure!(added <= most + 0.01, "{id} allocates {added} times a call, more than {most}");
    }
    Ok(())
}

/// Checks that the instructions per call depend neither on the number of calls in the window nor on its length.
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
            "{id}: a call takes {count} instructions, expected {}",
            counts[0]
        );
    }
    Ok(())
}

/// Minimum of three counts. On a slow machine the clock may cause extra work, such as the start of a new slot of the
/// window, and that can only increase a count.
fn least(id: &str) -> anyhow::Result<f64> {
    let mut least = f64::INFINITY;
    for _ in 0..3 {
        least = least.min(measure::instructions(id)?);
    }
    Ok(least)
}

fn faults() -> anyhow::Result<()> {
    let caught = traps::set();
    let ours = caught
        .iter()
        .find(|caught| caught.name == "mainstay")
        .context("mainstay is not among the tested breakers")?;
    let Caught { failures_to_open, probes, straggler_closes, .. } = ours;
    println!(
        "breaker: opens after {failures_to_open:?}, probes {probes}, straggler closes {straggler_closes:?}"
    );
    ensure!(
        failures_to_open.is_some_and(|failures| failures <= 20),
        "the breaker does not open after 20 failures that follow 10,000 successes"
    );
    ensure!(*probes == 1, "{probes} concurrent probes, but the setting is 1");
    ensure!(*straggler_closes == Some(false), "a call that began before the breaker opened closes it");
    Ok(())
}
