//! Transactions of one item, limited so that other work keeps its connections.
//!
//! Each transaction that waits for a row has a connection. Without a bound, 16 orders for one locked item take all 16
//! connections, and all other orders, reads and outcomes wait behind them. So an item is tried briefly first, in at most
//! half of the connections. If it needs more time, it gets that time in at most a quarter of them. Some may wait for that
//! quarter, so that a short rush for one row is not refused. The rest is refused as busy at once: a caller that waited would
//! hold a permit that another request needs.

use std::sync::Arc;

use sqlx::PgConnection;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{Instant, timeout_at};

use super::error::is_held_up;
use super::{Database, DatabaseError, TxEnd, Work};

/// Permits for transactions of one item.
#[derive(Debug)]
pub(super) struct Room {
    brief: Semaphore,
    patient: Semaphore,
    /// Patient transactions, and callers that wait to begin one.
    queue: Semaphore,
}

impl Room {
    /// Permits for a pool of this size.
    pub(super) fn of(connections: u32) -> Self {
        let permits = |share: u32| Semaphore::new(usize::try_from(share).unwrap_or(1));
        let (half, quarter) = ((connections / 2).max(1), (connections / 4).max(1));
        Self { brief: permits(half), patient: permits(quarter), queue: permits(half + quarter) }
    }
}

impl Database {
    /// Runs `work` as [`Database::transaction`] does, without letting it take the connections that other work needs: first
    /// with 50 ms for a lock and 250 ms for a statement, then, if that was too short, with the time of the [`Limits`].
    ///
    /// # Errors
    /// [`DatabaseError::Busy`] also when too many transactions wait for locks or for slow statements already, and when no
    /// permit came free within the time for a free connection.
    ///
    /// # Cancellation
    /// As of [`Database::transaction`].
    ///
    /// [`Limits`]: super::Limits
    pub async fn alone<I, T, F>(
        &self,
        deadline: Option<Instant>,
        input: I,
        work: F,
    ) -> Result<T, DatabaseError>
    where
        F: for<'c> Fn(&'c mut PgConnection, &'c I) -> Work<'c, TxEnd<T>>,
    {
        let Some(permit) = self.permit(&self.room.brief, deadline).await else {
            let is_late = deadline.is_some_and(|deadline| deadline <= Instant::now());
            let busy = || DatabaseError::Busy(Arc::new(sqlx::Error::PoolTimedOut));
            return Err(if is_late { DatabaseError::Deadline } else { busy() });
        };
        let brief = self.hurried(deadline, &input, |connection, input| work(connection, input)).await;
        drop(permit);
        match brief {
            Err(error) if is_held_up(&error) => self.patient(error, deadline, input, work).await,
            done => done,
        }
    }

    /// The second part of [`Database::alone`]; `held_up` is the error of the first.
    pub(crate) async fn patient<I, T, F>(
        &self,
        held_up: DatabaseError,
        deadline: Option<Instant>,
        input: I,
        work: F,
    ) -> Result<T, DatabaseError>
    where
        F: for<'c> Fn(&'c mut PgConnection, &'c I) -> Work<'c, TxEnd<T>>,
    {
        let Ok(_queued) = self.room.queue.try_acquire() else { return Err(held_up) };
        let Some(_permit) = self.permit(&self.room.patient, deadline).await else { return Err(held_up) };
        self.transaction(deadline, input, work).await
    }

    /// Acquires a permit within the time for a free connection.
    async fn permit<'a>(
        &self,
        permits: &'a Semaphore,
        deadline: Option<Instant>,
    ) -> Option<SemaphorePermit<'a>> {
        let bound = Instant::now() + self.limits.acquire;
        let bound = deadline.map_or(bound, |deadline| deadline.min(bound));
        timeout_at(bound, permits.acquire()).await.ok()?.ok()
    }
}
