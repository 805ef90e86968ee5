//! A percentile of recent latencies in fixed memory: counts in logarithmic steps, over the current span of time and
//! the one before.
//!
//! A call that was dropped counts with its time so far. Without it, exactly the slow calls would be missing, and the
//! percentile would fall until every call is hedged.

use std::time::Duration;

use tokio::time::Instant;

/// Steps for each doubling: with four, a percentile is at most a quarter too high.
const STEPS: usize = 4;
/// Doublings of a microsecond; the last one is nine minutes.
const DOUBLINGS: usize = 30;
const BUCKETS: usize = STEPS * DOUBLINGS;

#[derive(Debug)]
pub(super) struct Latencies {
    span: Duration,
    began: Instant,
    present: [u32; BUCKETS],
    before: [u32; BUCKETS],
}

impl Latencies {
    pub(super) fn new(span: Duration, now: Instant) -> Self {
        Self { span, began: now, present: [0; BUCKETS], before: [0; BUCKETS] }
    }

    pub(super) fn record(&mut self, now: Instant, took: Duration) {
        self.turn(now);
        let bucket = &mut self.present[bucket(took)];
        *bucket = bucket.saturating_add(1);
    }

    fn turn(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.began);
        if passed >= self.span {
            let stale = passed >= self.span * 2;
            self.before = if stale { [0; BUCKETS] } else { self.present };
            self.present = [0; BUCKETS];
            self.began = now;
        }
    }

    /// The time within which `percent` of the calls ended; `None` with fewer than `min_samples` calls.
    pub(super) fn percentile(&mut self, now: Instant, percent: u64, min_samples: u64) -> Option<Duration> {
        self.turn(now);
        let counts = || self.present.iter().zip(&self.before).map(|(a, b)| u64::from(*a) + u64::from(*b));
        let total: u64 = counts().sum();
        if total < min_samples.max(1) {
            return None;
        }
        let wanted = (total * percent).div_ceil(100);
        let mut seen = 0;
        let at = counts().position(|count| {
            seen += count;
            seen >= wanted
        });
        at.map(upper_bound)
    }
}

fn bucket(took: Duration) -> usize {
    let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX).max(1);
    let doubling = micros.ilog2() as usize;
    // The two bits after the leading bit.
    let step = if doubling >= 2 { (micros >> (doubling - 2)) & 3 } else { (micros << (2 - doubling)) & 3 };
    (doubling * STEPS + usize::try_from(step).unwrap_or(0)).min(BUCKETS - 1)
}

fn upper_bound(bucket: usize) -> Duration {
    let (doubling, step) = (bucket / STEPS, bucket % STEPS);
    let quarters = (STEPS + step + 1) as u64;
    Duration::from_micros((quarters << doubling).div_ceil(STEPS as u64))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_percentile_is_never_low_and_at_most_a_quarter_high(
            millis in prop::collection::vec(1_u64..5_000, 20..200), percent in 1_u64..=100,
        ) {
            let now = Instant::now();
            let mut latencies = Latencies::new(Duration::from_secs(10), now);
            for ms in &millis {
                latencies.record(now, Duration::from_millis(*ms));
            }
            let mut sorted = millis.clone();
            sorted.sort_unstable();
            let wanted = (sorted.len() * usize::try_from(percent).unwrap()).div_ceil(100);
            let exact = Duration::from_millis(sorted[wanted - 1]);
            let got = latencies.percentile(now, percent, 1).unwrap();
            prop_assert!(got >= exact && got <= exact * 5 / 4 + Duration::from_micros(2), "{got:?}, exact {exact:?}");
        }
    }

    #[test]
    fn samples_older_than_two_spans_are_forgotten() {
        let base = Instant::now();
        let at = |secs| base + Duration::from_secs(secs);
        let mut latencies = Latencies::new(Duration::from_secs(10), base);
        for _ in 0..20 {
            latencies.record(base, Duration::from_secs(1));
        }
        assert!(latencies.percentile(at(12), 95, 20).is_some());
        assert_eq!(latencies.percentile(at(23), 95, 20), None);
        for _ in 0..20 {
            latencies.record(at(24), Duration::from_millis(1));
        }
        assert!(latencies.percentile(at(24), 95, 20).unwrap() < Duration::from_millis(2));
    }
}
