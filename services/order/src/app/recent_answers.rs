//! Record of inventory's recent answers. It distinguishes an order that fails alone from an outage.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Time for which a definite answer shows that inventory serves: four orders at a rate of two a second.
const RECENT: Duration = Duration::from_secs(2);

/// The times of inventory's definite answers, to any order.
#[derive(Debug, Default)]
pub(super) struct RecentAnswers(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    last: Option<Instant>,
    /// True if a try failed after `last`.
    has_failed: bool,
    /// True if an outage ended and [`RecentAnswers::take_recovered`] has not reported it yet.
    recovered: bool,
}

impl RecentAnswers {
    /// Notes a definite answer. It ends an outage when no answer came for [`RECENT`] and a try failed.
    pub(super) fn answered(&self) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let was_silent = state.last.is_none_or(|last| now - last > RECENT);
        state.recovered |= was_silent && state.has_failed;
        state.last = Some(now);
        state.has_failed = false;
    }

    /// Notes a try that decided nothing. `true` when inventory serves other orders at the same time.
    pub(super) fn failed(&self) -> bool {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.has_failed = true;
        state.last.is_some_and(|last| last.elapsed() <= RECENT)
    }

    /// True if an outage ended since the last call of this function.
    pub(super) fn take_recovered(&self) -> bool {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner).recovered)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_order_that_fails_beside_others_differs_from_an_outage() {
        let recent = RecentAnswers::default();
        assert!(!recent.failed(), "nothing was ever served");
        recent.answered();
        assert!(recent.take_recovered() && !recent.take_recovered(), "reported once");
        assert!(recent.failed(), "another order was served just now");
        recent.answered();
        assert!(!recent.take_recovered(), "there was no outage");
        tokio::time::advance(2 * RECENT).await;
        assert!(!recent.failed(), "everything fails");
        recent.answered();
        assert!(recent.take_recovered());
    }
}
