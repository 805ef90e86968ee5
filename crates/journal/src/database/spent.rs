//! Time that one piece of work spends on the database, for the record of that work.
//!
//! The work runs inside [`Spent::measure`]. Every transaction, read and shared write in it adds its time, in the task
//! of the work. A shared write adds the time until its result, although another task carries it out.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::task::futures::TaskLocalFuture;
use tokio::time::Instant;

tokio::task_local! {
    static SPENT: Arc<Spent>;
}

/// Time on the database so far.
#[derive(Debug, Default)]
pub struct Spent {
    pool_micros: AtomicU64,
    total_micros: AtomicU64,
}

impl Spent {
    /// Runs `future`, and adds its time on the database to `self`.
    pub fn measure<F: Future>(self: Arc<Self>, future: F) -> TaskLocalFuture<Arc<Self>, F> {
        SPENT.scope(self, future)
    }

    /// Time that the work waited for connections.
    pub fn pool(&self) -> Duration {
        Duration::from_micros(self.pool_micros.load(Ordering::Relaxed))
    }

    /// Time on the database, the wait for connections included.
    pub fn total(&self) -> Duration {
        Duration::from_micros(self.total_micros.load(Ordering::Relaxed))
    }
}

/// Guard that adds the time from its creation to its drop.
#[derive(Debug)]
pub(crate) struct Timer {
    began: Instant,
    of: fn(&Spent) -> &AtomicU64,
}

impl Timer {
    pub(super) fn pool() -> Self {
        Self { began: Instant::now(), of: |spent| &spent.pool_micros }
    }

    pub(crate) fn total() -> Self {
        Self { began: Instant::now(), of: |spent| &spent.total_micros }
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        let micros = u64::try_from(self.began.elapsed().as_micros()).unwrap_or(u64::MAX);
        // An error means that the work is not measured.
        let _ = SPENT.try_with(|spent| (self.of)(spent).fetch_add(micros, Ordering::Relaxed));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn only_the_measured_work_adds_its_time_also_when_it_is_dropped() {
        let spent = Arc::new(Spent::default());
        let unmeasured = Timer::total();
        let work = async {
            let total = Timer::total();
            let pool = Timer::pool();
            tokio::time::sleep(Duration::from_millis(2)).await;
            drop(pool);
            tokio::time::sleep(Duration::from_millis(5)).await;
            drop(total);
            let _dropped = Timer::total();
            std::future::pending::<()>().await;
        };
        let bound = Duration::from_millis(17);
        assert!(tokio::time::timeout(bound, spent.clone().measure(work)).await.is_err());
        drop(unmeasured);
        assert_eq!((spent.pool(), spent.total()), (Duration::from_millis(2), bound));
    }
}
