//! Reads tokio's clock, which tests can pause, once for each turn of a client stack.
//!
//! Ten layers would ask for the time ten times within one microsecond, and each answer costs more than the work it is
//! for. So the outermost layer reads the clock once for each `call` and each `poll`, and what runs inside that turn
//! sees the same instant. Outside of a turn, and in a layer used alone, this is the plain clock.

use std::cell::Cell;

use tokio::time::Instant;

thread_local! {
    static TURN: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// The time.
#[inline]
pub(crate) fn now() -> Instant {
    TURN.get().unwrap_or_else(Instant::now)
}

/// Runs one synchronous turn at one instant. Ends with it, also by panic; an inner turn reads the clock anew.
#[inline]
pub(crate) fn turn<R>(work: impl FnOnce(Instant) -> R) -> R {
    struct Restore(Option<Instant>);
    impl Drop for Restore {
        fn drop(&mut self) {
            TURN.set(self.0);
        }
    }
    let now = Instant::now();
    let _restore = Restore(TURN.replace(Some(now)));
    work(now)
}

/// Nanoseconds from `base` to `now`, in 64 bits: 584 years.
#[inline]
pub(crate) fn nanos_since(base: Instant, now: Instant) -> u64 {
    let passed = now.saturating_duration_since(base);
    passed.as_secs().wrapping_mul(1_000_000_000).wrapping_add(u64::from(passed.subsec_nanos()))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn time_moves_between_turns_and_not_within_one() {
        let first = turn(|outer| {
            assert_eq!(now(), outer);
            outer
        });
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(turn(|_| now()), first + Duration::from_secs(1));
        let panicked = std::panic::catch_unwind(|| turn(|_| panic!("in the middle of a turn")));
        assert!(panicked.is_err());
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(now(), first + Duration::from_secs(2));
    }
}
