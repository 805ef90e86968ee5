//! Reads tokio's clock, which tests can pause, once for each turn of a client stack.
//!
//! Ten layers would read the clock ten times within one microsecond, and each reading costs more than the layer's
//! work. So the outermost layer reads the clock once for each `call` and each `poll`, and the layers inside that turn
//! see the same instant. Outside of a turn, and in a layer used alone, this is the plain clock.

use std::cell::Cell;

use tokio::time::Instant;

thread_local! {
    static TURN: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// The current time.
#[inline]
pub(crate) fn now() -> Instant {
    TURN.get().unwrap_or_else(Instant::now)
}

/// Guard for one synchronous turn at one instant. Do not keep it across an await. A turn that begins inside another
/// one reads the clock again.
///
/// It is a guard and not a function that runs a closure, because the closure's captures and result would be copied.
#[derive(Debug)]
pub(crate) struct Turn {
    pub(crate) now: Instant,
    outer: Option<Instant>,
}

impl Turn {
    #[inline]
    pub(crate) fn begin() -> Self {
        let now = Instant::now();
        Self { now, outer: TURN.replace(Some(now)) }
    }
}

impl Drop for Turn {
    #[inline]
    fn drop(&mut self) {
        TURN.set(self.outer);
    }
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
        let in_turn = || {
            let turn = Turn::begin();
            assert_eq!(now(), turn.now);
            turn.now
        };
        let first = in_turn();
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(in_turn(), first + Duration::from_secs(1));
        let panicked = std::panic::catch_unwind(|| {
            let _turn = Turn::begin();
            panic!("in the middle of a turn");
        });
        assert!(panicked.is_err());
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(now(), first + Duration::from_secs(2));
    }
}
