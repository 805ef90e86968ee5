//! Waiting for a condition instead of sleeping and hoping.

use std::fmt::{Debug, Display};
use std::future::Future;
use std::panic::Location;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout_at};

/// What a condition says each time it is looked at.
pub trait Look {
    /// What there is once it holds.
    type Found;
    /// The found, or what is still missing.
    fn look(self) -> Result<Self::Found, String>;
}

impl Look for bool {
    type Found = ();
    fn look(self) -> Result<(), String> {
        if self { Ok(()) } else { Err("it is false".to_owned()) }
    }
}

impl<T> Look for Option<T> {
    type Found = T;
    fn look(self) -> Result<T, String> {
        self.ok_or_else(|| "there is none".to_owned())
    }
}

impl<T, E: Display> Look for Result<T, E> {
    type Found = T;
    fn look(self) -> Result<T, String> {
        self.map_err(|missing| missing.to_string())
    }
}

/// Looks at `condition` until it holds and gives what it found.
///
/// # Panics
/// When it does not hold within `within`: names what was waited for, where, for how long, how often it was
/// looked at and what was missing the last time.
#[track_caller]
pub fn eventually<C, F>(
    what: &str,
    within: Duration,
    condition: C,
) -> impl Future<Output = <F::Output as Look>::Found>
where
    C: FnMut() -> F,
    F: Future<Output: Look>,
{
    let place = Location::caller();
    async move { in_time(what, within, condition).await.unwrap_or_else(|never| panic!("{place}: {never}")) }
}

/// The same for whoever can go on without: says what was waited for, for how long, how often it was looked at and
/// what was missing the last time.
pub async fn in_time<C, F>(
    what: &str,
    within: Duration,
    mut condition: C,
) -> Result<<F::Output as Look>::Found, String>
where
    C: FnMut() -> F,
    F: Future<Output: Look>,
{
    /// Quick enough that waiting costs a test nothing, slow enough that looking does not keep a core busy.
    const FIRST: Duration = Duration::from_millis(2);
    const LAST: Duration = Duration::from_millis(50);

    let (began, mut pause) = (Instant::now(), FIRST);
    let (mut looks, mut missing) = (0_u32, "it was never looked at to the end".to_owned());
    loop {
        match timeout_at(began + within, condition()).await.map(Look::look) {
            Ok(Ok(found)) => return Ok(found),
            Ok(Err(still)) => {
                looks += 1;
                missing = still;
            }
            Err(_) => {}
        }
        if began.elapsed() >= within {
            return Err(format!(
                "not within {within:?}: {what}\n  looked {looks} times; the last time: {missing}"
            ));
        }
        sleep(pause).await;
        pause = (pause * 2).min(LAST);
    }
}

/// The same for conditions that need no waiting.
#[track_caller]
pub fn eventually_now<L>(
    what: &str,
    within: Duration,
    mut condition: impl FnMut() -> L,
) -> impl Future<Output = L::Found>
where
    L: Look + Debug,
{
    eventually(what, within, move || std::future::ready(condition()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_looks_until_the_condition_holds() {
        let began = Instant::now();
        let at = eventually_now("a second has passed", Duration::from_secs(5), || {
            Some(began.elapsed()).filter(|passed| *passed >= Duration::from_secs(1))
        })
        .await;
        assert!(at < Duration::from_millis(1_100), "it was found {at:?} after it held");
    }

    #[tokio::test(start_paused = true)]
    #[should_panic(expected = "not within 1s: the moon turns blue\n  looked")]
    async fn it_says_what_never_came() {
        eventually_now("the moon turns blue", Duration::from_secs(1), || Err::<(), _>("it is white")).await;
    }

    #[tokio::test(start_paused = true)]
    #[should_panic(expected = "it was never looked at to the end")]
    async fn a_look_that_hangs_is_given_up() {
        eventually("an answer", Duration::from_secs(1), std::future::pending::<bool>).await;
    }
}
