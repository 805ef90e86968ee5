//! Work that outlives the request that began it.
//!
//! A dropped future in the middle of a database transaction can lose what was acknowledged or leave the
//! connection in a state that the next user pays for. So whatever must not be cut runs here, in a task of its own,
//! where neither a client that leaves nor a deadline can cancel it; shutdown waits for it, and only the last
//! stage of a shutdown aborts it. This is the one home of `tokio::spawn`.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, WaitForCancellationFuture};
use tokio_util::task::TaskTracker;
use tracing::Instrument;

/// Spawns and tracks tasks. Cheap to clone; clones share everything.
#[derive(Debug, Clone, Default)]
pub struct Tasks(Arc<Shared>);

/// Behind one pointer, since every request has a clone of its own, and to clone a token takes a lock.
#[derive(Debug, Default)]
struct Shared {
    tracker: TaskTracker,
    stopping: CancellationToken,
    abort: CancellationToken,
}

/// Why a task gave no result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Lost {
    /// It panicked; the panic has been logged.
    #[error("the task panicked")]
    Panicked,
    /// The last stage of a shutdown ended it.
    #[error("the task was ended by a shutdown")]
    Aborted,
}

impl Tasks {
    /// No tasks yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Runs `future` to its end in its own task and in the caller's span, whatever becomes of the caller. Dropping
    /// what is returned does not stop it.
    pub fn spawn<F>(&self, future: F) -> Task<F::Output>
    where
        F: Future<Output: Send + 'static> + Send + 'static,
    {
        // The task would hold it three times over, once for each future that a future is handed to before it runs.
        let future = Box::pin(future);
        let shared = Arc::clone(&self.0);
        let unless_aborted = async move { shared.abort.run_until_cancelled(future).await };
        Task(tokio::spawn(self.0.tracker.track_future(unless_aborted.in_current_span())))
    }

    /// Resolves when a shutdown begins. A loop (a sweep, a feed) waits for this beside its timer, and ends.
    pub fn stopping(&self) -> WaitForCancellationFuture<'_> {
        self.0.stopping.cancelled()
    }

    /// Whether a shutdown has begun.
    pub fn is_stopping(&self) -> bool {
        self.0.stopping.is_cancelled()
    }

    /// Tasks that have not ended.
    pub fn running(&self) -> usize {
        self.0.tracker.len()
    }

    /// Tells loops to end. Tasks may still be spawned: work in hand may need them.
    pub fn stop(&self) {
        self.0.stopping.cancel();
    }

    /// Ends every task at its next await.
    pub fn abort(&self) {
        self.0.stopping.cancel();
        self.0.abort.cancel();
    }

    /// Resolves when all tasks have ended.
    pub async fn ended(&self) {
        self.0.tracker.close();
        self.0.tracker.wait().await;
    }

    pub(crate) fn stopping_token(&self) -> CancellationToken {
        self.0.stopping.clone()
    }

    pub(crate) fn aborting_token(&self) -> CancellationToken {
        self.0.abort.clone()
    }

    pub(crate) fn aborting(&self) -> WaitForCancellationFuture<'_> {
        self.0.abort.cancelled()
    }
}

/// A running task. Awaiting it gives its result; dropping it lets it run on.
#[derive(Debug)]
#[must_use = "the task runs on by itself; await it for its result, or drop it on purpose"]
pub struct Task<T>(JoinHandle<Option<T>>);

impl<T> Future for Task<T> {
    type Output = Result<T, Lost>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(cx).map(|joined| match joined {
            Ok(Some(result)) => Ok(result),
            Err(error) if error.is_panic() => Err(Lost::Panicked),
            // Nothing here calls `JoinHandle::abort`; the runtime cancels its tasks when it shuts down.
            Ok(None) | Err(_) => Err(Lost::Aborted),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_caller_that_leaves_does_not_stop_the_work() {
        let tasks = Tasks::new();
        let (done, mut was_done) = oneshot::channel();
        let caller = async {
            tasks
                .spawn(async move {
                    tokio::time::sleep(Duration::from_secs(2)).await;
                    done.send(()).unwrap();
                })
                .await
        };
        assert!(tokio::time::timeout(Duration::from_secs(1), caller).await.is_err());
        assert!(was_done.try_recv().is_err(), "the work is still in hand");
        tasks.stop();
        tasks.ended().await;
        was_done.try_recv().expect("stopping waits for the work");
    }

    #[tokio::test(start_paused = true)]
    async fn an_abort_ends_work_and_says_so() {
        let tasks = Tasks::new();
        let task = tasks.spawn(std::future::pending::<()>());
        tasks.abort();
        assert_eq!(task.await, Err(Lost::Aborted));
        tasks.ended().await;
        assert_eq!(tasks.running(), 0);
    }

    #[tokio::test]
    async fn a_panic_is_a_lost_result_and_not_a_lost_process() {
        let tasks = Tasks::new();
        let task = tasks.spawn(async { assert!(tokio::task::try_id().is_none(), "on purpose") });
        assert_eq!(task.await, Err(Lost::Panicked));
        tasks.ended().await;
    }
}
