//! Waiting for a condition with a deadline. Tests use it instead of a fixed sleep.

use std::fmt::{Debug, Display};
use std::future::Future;
use std::panic::Location;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout_at};

/// Result of one check of a condition.
pub trait Check {
    /// Value of a condition that holds.
    type Found;
    /// The value if the condition holds, or a text that says why it does not.
    fn check(self) -> Result<Self::Found, String>;
}

impl Check for bool {
    type Found = ();
    fn check(self) -> Result<(), String> {
        if self { Ok(()) } else { Err("it is false".to_owned()) }
    }
}

impl<T> Check for Option<T> {
    type Found = T;
    fn check(self) -> Result<T, String> {
        self.ok_or_else(|| "it is none".to_owned())
    }
}

impl<T, E: Display> Check for Result<T, E> {
    type Found = T;
    fn check(self) -> Result<T, String> {
        self.map_err(|missing| missing.to_string())
    }
}

/// Checks `condition` until it holds and returns its value.
///
/// # Panics
/// If the condition does not hold within `within`. The message names the condition, the calling line, the time, the
/// number of checks and the result of the last check.
#[track_caller]
pub fn eventually<C, F>(
    what: &str,
    within: Duration,
    condition: C,
) -> impl Future<Output = <F::Output as Check>::Found>
where
    C: FnMut() -> F,
    F: Future<Output: Check>,
{
    let caller = Location::caller();
    async move { in_time(what, within, condition).await.unwrap_or_else(|error| panic!("{caller}: {error}")) }
}

/// Like [`eventually`], but returns an error instead of a panic, for callers that can continue. The error names the
/// condition, the time, the number of checks and the result of the last check.
pub async fn in_time<C, F>(
    what: &str,
    within: Duration,
    mut condition: C,
) -> Result<<F::Output as Check>::Found, String>
where
    C: FnMut() -> F,
    F: Future<Output: Check>,
{
    /// First pause between checks: short, so that a condition that holds soon costs the test little time.
    const FIRST: Duration = Duration::from_millis(2);
    /// Longest pause between checks: long enough that checking does not keep a core busy.
    const LAST: Duration = Duration::from_millis(50);

    let (started, mut pause) = (Instant::now(), FIRST);
    let (mut checks, mut last) = (0_u32, "no check finished".to_owned());
    loop {
        match timeout_at(started + within, condition()).await.map(Check::check) {
            Ok(Ok(found)) => return Ok(found),
            Ok(Err(reason)) => {
                checks += 1;
                last = reason;
            }
            Err(_) => {}
        }
        if started.elapsed() >= within {
            return Err(format!(
                "not within {within:?}: {what}\n  checked {checks} times; last result: {last}"
            ));
        }
        sleep(pause).await;
        pause = (pause * 2).min(LAST);
    }
}

/// Like [`eventually`], for a condition that is checked without waiting.
#[track_caller]
pub fn eventually_now<L>(
    what: &str,
    within: Duration,
    mut condition: impl FnMut() -> L,
) -> impl Future<Output = L::Found>
where
    L: Check + Debug,
{
    eventually(what, within, move || std::future::ready(condition()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_condition_is_checked_until_it_holds() {
        let started = Instant::now();
        let at = eventually_now("a second has passed", Duration::from_secs(5), || {
            Some(started.elapsed()).filter(|passed| *passed >= Duration::from_secs(1))
        })
        .await;
        assert!(at < Duration::from_millis(1_100), "the condition was found to hold after {at:?}");
    }

    #[tokio::test(start_paused = true)]
    #[should_panic(expected = "not within 1s: the order is confirmed\n  checked")]
    async fn the_panic_names_the_condition_that_never_held() {
        eventually_now("the order is confirmed", Duration::from_secs(1), || Err::<(), _>("it is pending"))
            .await;
    }

    #[tokio::test(start_paused = true)]
    #[should_panic(expected = "no check finished")]
    async fn a_check_that_hangs_is_cancelled_at_the_deadline() {
        eventually("an answer", Duration::from_secs(1), std::future::pending::<bool>).await;
    }
}
