//! The quota's arithmetic: which requests it admits, which times it promises, and how much memory it uses.

use proptest::prelude::*;

use super::*;

fn limiter(quota: u32, window_ms: u64, max_keys: usize) -> RateLimiter {
    RateLimiter::new(NonZeroU32::new(quota).unwrap(), Duration::from_millis(window_ms), max_keys)
}

fn paused(test: impl Future<Output = Result<(), TestCaseError>>) -> Result<(), TestCaseError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.expect("a runtime without I/O can always be built").block_on(test)
}

proptest! {
    /// In any period a key gets at most the quota at once and then the steady rate.
    #[test]
    fn a_key_never_gets_more_than_its_burst_and_its_rate(
        quota in 1..20_u32,
        window_ms in 1..5_000_u64,
        waits in proptest::collection::vec(0..400_u64, 1..200),
    ) {
        paused(async move {
            let limiter = limiter(quota, window_ms, 10);
            let mut admitted = Vec::new();
            for wait in waits {
                tokio::time::advance(Duration::from_millis(wait)).await;
                if limiter.check("key").is_ok() {
                    admitted.push(Instant::now());
                }
            }
            for (first, from) in admitted.iter().enumerate() {
                for (last, to) in admitted.iter().enumerate().skip(first) {
                    let count = last - first + 1;
                    let spaced = nanos(to.duration_since(*from)) / limiter.interval;
                    prop_assert!(count as u64 <= u64::from(quota) + spaced);
                }
            }
            Ok(())
        })?;
    }

    /// `remaining` more requests succeed at once, the next fails, and it succeeds after exactly `retry_after`.
    #[test]
    fn the_remaining_quota_it_reports_is_the_quota_that_remains(
        quota in 1..50_u32,
        window_ms in 1..100_000_u64,
        spent in 0..60_u32,
        wait_ms in 0..50_000_u64,
    ) {
        paused(async move {
            let limiter = limiter(quota, window_ms, 10);
            for _ in 0..spent {
                let _ = limiter.check("key");
            }
            tokio::time::advance(Duration::from_millis(wait_ms)).await;
            if let Ok(allowance) = limiter.check("key") {
                for _ in 0..allowance.remaining {
                    prop_assert!(limiter.check("key").is_ok());
                }
            }
            let spent = limiter.check("key").unwrap_err();
            prop_assert!(spent.retry_after <= spent.reset || quota == 1);
            prop_assert!(spent.retry_after > Duration::ZERO);
            let before = Instant::now();
            tokio::time::advance(spent.retry_after).await;
            prop_assert!(before.elapsed() >= spent.retry_after);
            prop_assert!(limiter.check("key").is_ok());
            Ok(())
        })?;
    }

    #[test]
    fn memory_is_bounded_and_a_remembered_key_keeps_its_debt(
        keys in proptest::collection::vec(0..1_000_u32, 1..500),
        max_keys in 1..40_usize,
    ) {
        paused(async move {
            let limiter = limiter(1, 1_000, max_keys);
            let mut distinct = std::collections::HashSet::new();
            for key in keys {
                let fresh = distinct.insert(key);
                let admitted = limiter.check(key).is_ok();
                prop_assert!(admitted || !fresh, "a new key was refused");
                prop_assert!(!admitted || fresh || distinct.len() > max_keys, "a remembered key got too much");
                prop_assert!(limiter.keys() <= max_keys);
            }
            Ok(())
        })?;
    }
}
