//! Work that may outlive the request that began it.
//!
//! A future that is dropped in a database transaction can lose an acknowledged write, or leave an open transaction on the
//! connection. So work that must not be cancelled runs here: neither a client's disconnect nor a deadline cancels it, a
//! shutdown waits for it, and only the last stage of a shutdown aborts it.

mod loops;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use loops::Watched;
pub use loops::{LoopState, caught};
use tokio::runtime::Handle;
use tokio_util::sync::{CancellationToken, WaitForCancellationFuture};
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;
use tracing::Instrument;

/// Tasks of a process. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Tasks(Arc<TaskState>);

/// State of [`Tasks`] behind one pointer, because each request clones it, and the clone of a token takes a lock.
#[derive(Debug, Default)]
struct TaskState {
    tracker: TaskTracker,
    stopping: CancellationToken,
    abort: CancellationToken,
    loops: Mutex<Vec<Arc<Watched>>>,
}

/// Error of work that panicked. The panic hook has logged it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the work panicked")]
pub struct Lost;

impl Tasks {
    /// An empty set of tasks.
    pub fn new() -> Self {
        Self::default()
    }

    /// Runs `future` to its end in a task of its own, in the caller's span. Its result is dropped.
    pub fn spawn<F>(&self, future: F)
    where
        F: Future<Output: Send + 'static> + Send + 'static,
    {
        // Boxed, because the task would hold three copies: one for each future that wraps another.
        self.spawn_pinned(Box::pin(future));
    }

    fn spawn_pinned<F>(&self, future: Pin<Box<F>>)
    where
        F: Future<Output: Send + 'static> + Send + 'static,
    {
        let shared = Arc::clone(&self.0);
        let unless_aborted = async move { shared.abort.run_until_cancelled(future).await };
        drop(tokio::spawn(self.0.tracker.track_future(unless_aborted.in_current_span())));
    }

    /// Runs `future` to its end, also when its caller is cancelled. It runs in the caller's task while that polls the
    /// [`Shield`], and in a task of its own, in the caller's span, once the [`Shield`] is dropped.
    pub fn shield<F>(&self, future: F) -> Shield<F>
    where
        F: Future<Output: Send + 'static> + Send + 'static,
    {
        Shield { future: Some(Box::pin(future)), tasks: self.clone(), _counted: self.0.tracker.token() }
    }

    /// Resolves when a shutdown begins. Background loops wait for it beside their timer.
    pub fn stopping(&self) -> WaitForCancellationFuture<'_> {
        self.0.stopping.cancelled()
    }

    /// True after a shutdown has begun.
    pub fn is_stopping(&self) -> bool {
        self.0.stopping.is_cancelled()
    }

    /// Number of tasks and shielded futures that have not ended.
    pub fn running(&self) -> usize {
        self.0.tracker.len()
    }

    /// Asks background loops to end. Work in flight may still spawn tasks.
    pub fn stop(&self) {
        self.0.stopping.cancel();
    }

    /// Ends every task at its next await.
    pub fn abort(&self) {
        self.0.stopping.cancel();
        self.0.abort.cancel();
    }

    /// Resolves when all tasks and shielded futures have ended.
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

/// Work that goes on when it is dropped. Most callers wait to the end, and need no task for it.
///
/// # Cancellation
/// Dropping it before it is ready gives the rest to [`Tasks::spawn`]; the work does not begin again.
#[must_use = "nothing runs until it is awaited or dropped"]
pub struct Shield<F>
where
    F: Future<Output: Send + 'static> + Send + 'static,
{
    /// The work, until it is ready.
    future: Option<Pin<Box<F>>>,
    tasks: Tasks,
    /// A shutdown waits for it in any task. It is dropped after the rest of the work was spawned.
    _counted: TaskTrackerToken,
}

impl<F> Future for Shield<F>
where
    F: Future<Output: Send + 'static> + Send + 'static,
{
    type Output = Result<F::Output, Lost>;

    /// # Panics
    /// If it is polled again after it was ready.
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        // Taken out, so that a future that panicked is not polled again.
        let mut future = self.future.take().expect("a future is not polled after it is ready");
        match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx))) {
            Ok(Poll::Pending) => {
                self.future = Some(future);
                Poll::Pending
            }
            Ok(Poll::Ready(result)) => Poll::Ready(Ok(result)),
            Err(_) => Poll::Ready(Err(Lost)),
        }
    }
}

impl<F> Drop for Shield<F>
where
    F: Future<Output: Send + 'static> + Send + 'static,
{
    fn drop(&mut self) {
        // Without a runtime the work cannot go on.
        if let Some(future) = self.future.take()
            && Handle::try_current().is_ok()
        {
            self.tasks.spawn_pinned(future);
        }
    }
}

impl<F> std::fmt::Debug for Shield<F>
where
    F: Future<Output: Send + 'static> + Send + 'static,
{
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shield").field("is_ready", &self.future.is_none()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::time::Duration;

    use tokio::sync::oneshot;
    use tokio::sync::oneshot::error::TryRecvError;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_caller_that_leaves_does_not_stop_the_work() {
        let tasks = Tasks::new();
        let (done, mut was_done) = oneshot::channel();
        let mut began = 0;
        let caller = tasks.shield(async move {
            began += 1;
            tokio::time::sleep(Duration::from_secs(2)).await;
            done.send(began).unwrap();
        });
        assert!(tokio::time::timeout(Duration::from_secs(1), caller).await.is_err());
        assert_eq!((was_done.try_recv(), tasks.running()), (Err(TryRecvError::Empty), 1));
        tasks.stop();
        tasks.ended().await;
        assert_eq!(was_done.try_recv(), Ok(1), "stopping waits for the work, which was begun once");
    }

    #[tokio::test]
    async fn a_caller_that_stays_has_the_result_and_is_waited_for() {
        let tasks = Tasks::new();
        let (send, receive) = oneshot::channel();
        let shield = tasks.shield(receive);
        assert_eq!(tasks.running(), 1);
        let waits = async {
            tasks.ended().await;
            tasks.running()
        };
        let sends = async {
            assert!(futures_util::poll!(pin!(tasks.ended())).is_pending());
            send.send(7).unwrap();
        };
        let (result, running, ()) = tokio::join!(shield, waits, sends);
        assert_eq!((result, running), (Ok(Ok(7)), 0));
    }

    #[tokio::test]
    async fn an_abort_ends_work_also_that_of_a_caller_that_leaves_then() {
        let tasks = Tasks::new();
        let (held, alive) = oneshot::channel::<()>();
        let (also_held, also_alive) = oneshot::channel::<()>();
        tasks.spawn(async move { (std::future::pending::<()>().await, held) });
        let mut shield = tasks.shield(async move { (std::future::pending::<()>().await, also_held) });
        assert!(futures_util::poll!(&mut shield).is_pending());
        tasks.abort();
        drop(shield);
        tasks.ended().await;
        assert_eq!(tasks.running(), 0);
        assert!(alive.await.is_err() && also_alive.await.is_err(), "what they held is let go");
    }

    #[tokio::test]
    async fn a_panic_is_a_lost_result_and_not_a_lost_process() {
        let tasks = Tasks::new();
        let work = async { assert!(tokio::task::try_id().is_none(), "on purpose") };
        let inside = tokio::spawn(tasks.shield(work));
        assert_eq!(inside.await.unwrap(), Err(Lost));
        assert_eq!(tasks.running(), 0, "it is not run again");
    }

    #[test]
    fn work_whose_runtime_is_gone_is_dropped() {
        let tasks = Tasks::new();
        let (held, mut alive) = oneshot::channel::<()>();
        drop(tasks.shield(async move { (std::future::pending::<()>().await, held) }));
        assert_eq!(alive.try_recv(), Err(TryRecvError::Closed));
    }
}
