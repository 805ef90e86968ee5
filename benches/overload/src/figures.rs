//! Figures computed from the records of a run. Times are in seconds from the start of the run.

use crate::load::{End, Record};

/// Successes per second, counted at the time of their answer.
pub(crate) fn goodput(records: &[Record], from: f64, to: f64) -> f64 {
    let good = records.iter().filter(|r| r.end == End::Success && within(r.due + r.took, from, to)).count();
    good as f64 / (to - from)
}

/// Share of the due requests that succeeded, or `None` if no request was due.
pub(crate) fn success(records: &[Record], from: f64, to: f64) -> Option<f64> {
    let due = records.iter().filter(|r| within(r.due, from, to));
    let (all, good) =
        due.fold((0_u32, 0_u32), |(all, good), r| (all + 1, good + u32::from(r.end == End::Success)));
    (all > 0).then(|| f64::from(good) / f64::from(all))
}

/// Number of due requests.
pub(crate) fn due(records: &[Record], from: f64, to: f64) -> f64 {
    records.iter().filter(|r| within(r.due, from, to)).count() as f64
}

/// Share of the due requests with the result `end`.
pub(crate) fn share(records: &[Record], end: End, from: f64, to: f64) -> f64 {
    let ended = records.iter().filter(|r| r.end == end && within(r.due, from, to)).count();
    ended as f64 / due(records, from, to)
}

/// A quantile of the latencies of successes, in milliseconds, or NaN without successes.
pub(crate) fn latency_ms(records: &[Record], quantile: f64, from: f64, to: f64) -> f64 {
    let good = records.iter().filter(|r| r.end == End::Success && within(r.due, from, to));
    let mut took: Vec<f64> = good.map(|r| r.took * 1_000.0).collect();
    took.sort_by(f64::total_cmp);
    let rank = (took.len() as f64 * quantile).ceil() as usize;
    took.get(rank.saturating_sub(1)).copied().unwrap_or(f64::NAN)
}

/// Time after `healed` until requests succeed as before, or `None`.
///
/// It ends with the first second whose success rate is at least 95 % of `usual`, if the rest of the run has that rate
/// too.
pub(crate) fn healed_after(records: &[Record], usual: f64, healed: f64, end: f64) -> Option<f64> {
    let enough = |from, to| success(records, from, to).is_some_and(|share| share >= 0.95 * usual);
    steps(healed, end - 1.0, 0.05)
        .find(|from| enough(*from, from + 1.0) && enough(*from, end))
        .map(|t| t - healed)
}

/// Times from `from` to `to` in equal steps.
pub(crate) fn steps(from: f64, to: f64, step: f64) -> impl Iterator<Item = f64> {
    let count = ((to - from) / step).floor() as u32;
    (0..=count).map(move |n| from + f64::from(n) * step)
}

fn within(time: f64, from: f64, to: f64) -> bool {
    (from..to).contains(&time)
}
