//! Whether inventory serves orders at all: it tells an order that fails by itself from an outage.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// A definite answer shows for this long that inventory serves: four orders' worth of time at two a second.
const RECENT: Duration = Duration::from_secs(2);

/// The definite answers of inventory, to any order.
#[derive(Debug, Default)]
pub(super) struct Served(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    last: Option<Instant>,
    /// Whether a try failed since `last`.
    has_failed: bool,
    /// Whether service came back and [`Served::take_recovered`] has not told it yet.
    recovered: bool,
}

impl Served {
    /// Notes a definite answer. It ends an outage when none came for some time while tries failed.
    pub(super) fn answered(&self) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let was_silent = state.last.is_none_or(|last| now - last > RECENT);
        state.recovered |= was_silent && state.has_failed;
        state.last = Some(now);
        state.has_failed = false;
    }

    /// Notes a try that decided nothing. `true`: inventory serves other orders meanwhile.
    pub(super) fn failed(&self) -> bool {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.has_failed = true;
        state.last.is_some_and(|last| last.elapsed() <= RECENT)
    }

    /// Whether inventory began to serve again since the last call.
    pub(super) fn take_recovered(&self) -> bool {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner).recovered)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_order_that_fails_beside_others_is_told_from_an_outage() {
        let served = Served::default();
        assert!(!served.failed(), "nothing was ever served");
        served.answered();
        assert!(served.take_recovered() && !served.take_recovered(), "told once");
        assert!(served.failed(), "another order was served just now");
        served.answered();
        assert!(!served.take_recovered(), "there was no outage");
        tokio::time::advance(2 * RECENT).await;
        assert!(!served.failed(), "everything fails");
        served.answered();
        assert!(served.take_recovered());
    }
}
