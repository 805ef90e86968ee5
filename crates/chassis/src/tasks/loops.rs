//! Background loops, which run as long as the process.
//!
//! A panic ends its task. When a sweep has ended, the service still answers, and its interrupted work stays unfinished. So
//! a loop that ends before the shutdown is started again after a pause, is counted, and is named in readiness.

use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use tokio::time::Instant;

use super::{Lost, Tasks};

/// Pause before the first new start. Each further pause is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// Longest pause. A loop that fails at each start costs little, and works within 10 s after its cause is gone.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// A loop that has run for this time since its last start counts as steady: each loop does its work at once.
const STEADY: Duration = Duration::from_secs(10);

const RESTARTS: &str = "mainstay_task_restarts_total";

/// State of a background loop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LoopState {
    /// Name of the loop.
    pub task: &'static str,
    /// Number of new starts before the shutdown.
    pub restarts: u64,
    /// True if it has not ended within its last 10 s of running.
    pub is_steady: bool,
}

#[derive(Debug)]
pub(super) struct Watched {
    task: &'static str,
    ends: Mutex<Ends>,
}

#[derive(Debug, Default)]
struct Ends {
    count: u64,
    /// Time at which the loop is steady again unless it ends before. `None`: it has not ended yet.
    steady_from: Option<Instant>,
}

impl Watched {
    fn state(&self) -> LoopState {
        let ends = self.ends.lock().unwrap_or_else(PoisonError::into_inner);
        let is_steady = ends.steady_from.is_none_or(|steady_from| steady_from <= Instant::now());
        LoopState { task: self.task, restarts: ends.count, is_steady }
    }

    fn ended(&self, pause: Duration) {
        let mut ends = self.ends.lock().unwrap_or_else(PoisonError::into_inner);
        ends.count += 1;
        ends.steady_from = Some(Instant::now() + pause + STEADY);
        metrics::counter!(RESTARTS, "task" => self.task).increment(1);
    }
}

impl Tasks {
    /// Runs the loop that `begin` makes until the shutdown, which the loop sees by the tasks that `begin` receives. When the
    /// loop panics or returns before, `begin` makes another one after a pause.
    pub fn supervise<F>(&self, task: &'static str, begin: impl Fn(Self) -> F + Send + Sync + 'static)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        metrics::describe_counter!(RESTARTS, "Background loops that ended and were started again");
        metrics::counter!(RESTARTS, "task" => task).increment(0);
        let watched = Arc::new(Watched { task, ends: Mutex::default() });
        self.0.loops.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(&watched));
        let tasks = self.clone();
        self.spawn(async move {
            let mut pause = FIRST_PAUSE;
            loop {
                let started = Instant::now();
                let ended = caught(async { begin(tasks.clone()).await }).await;
                if tasks.is_stopping() {
                    return;
                }
                if started.elapsed() >= STEADY {
                    pause = FIRST_PAUSE;
                }
                let reason = if ended.is_err() { "it panicked" } else { "it returned" };
                let pause_ms = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX);
                tracing::error!(task, reason, pause_ms, "background loop ended; it is started again");
                watched.ended(pause);
                tokio::select! {
                    () = tasks.stopping() => return,
                    () = tokio::time::sleep(pause) => {}
                }
                pause = (2 * pause).min(LONGEST_PAUSE);
            }
        });
    }

    /// States of the supervised loops.
    pub fn loops(&self) -> Vec<LoopState> {
        self.0.loops.lock().unwrap_or_else(PoisonError::into_inner).iter().map(|it| it.state()).collect()
    }
}

/// Runs `future` to its end. A panic in it is an error, so that one item of a sweep does not stop the others.
///
/// # Errors
/// `future` panicked; the panic hook has logged it.
pub async fn caught<T>(future: impl Future<Output = T>) -> Result<T, Lost> {
    AssertUnwindSafe(future).catch_unwind().await.map_err(|_| Lost)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use metrics_util::debugging::{DebugValue, DebuggingRecorder};

    use super::*;

    /// Values of the counter, by task.
    fn restarts(snapshotter: &metrics_util::debugging::Snapshotter) -> Vec<(String, DebugValue)> {
        let of = |key: &metrics::Key| key.labels().next().unwrap().value().to_owned();
        let all = snapshotter.snapshot().into_vec();
        all.into_iter().map(|(key, _, _, value)| (of(key.key()), value)).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn a_loop_that_panics_is_started_again_later_and_later_until_the_shutdown() {
        let recorder = DebuggingRecorder::new();
        let _recording = metrics::set_default_local_recorder(&recorder);
        let tasks = Tasks::new();
        let starts = Arc::new(Mutex::new(Vec::new()));
        let began = Instant::now();
        let seen = Arc::clone(&starts);
        tasks.supervise("sweep", move |tasks| {
            let seen = Arc::clone(&seen);
            async move {
                let start = {
                    let mut seen = seen.lock().unwrap();
                    seen.push(began.elapsed().as_millis());
                    seen.len()
                };
                match start {
                    1..=4 => panic!("as it was told to"),
                    5 => {}
                    _ => tasks.stopping().await,
                }
            }
        });
        assert_eq!(restarts(&recorder.snapshotter()), [("sweep".to_owned(), DebugValue::Counter(0))]);
        assert_eq!(tasks.loops(), [LoopState { task: "sweep", restarts: 0, is_steady: true }]);
        tokio::time::sleep(Duration::from_secs(9)).await;
        assert_eq!(*starts.lock().unwrap(), [0, 100, 300, 700, 1_500, 3_100]);
        assert_eq!(tasks.loops(), [LoopState { task: "sweep", restarts: 5, is_steady: false }]);
        tokio::time::sleep(Duration::from_secs(5)).await;
        assert_eq!(tasks.loops(), [LoopState { task: "sweep", restarts: 5, is_steady: true }]);
        assert_eq!(restarts(&recorder.snapshotter()), [("sweep".to_owned(), DebugValue::Counter(5))]);
        tasks.stop();
        tasks.ended().await;
        assert_eq!(starts.lock().unwrap().len(), 6);
    }

    #[tokio::test(start_paused = true)]
    async fn a_loop_that_ran_well_for_long_is_started_again_at_once() {
        let tasks = Tasks::new();
        let starts = Arc::new(AtomicU64::new(0));
        let seen = Arc::clone(&starts);
        tasks.supervise("sweep", move |_| {
            seen.fetch_add(1, Ordering::Relaxed);
            async {
                tokio::time::sleep(Duration::from_mins(1)).await;
                panic!("as it was told to");
            }
        });
        tokio::time::sleep(Duration::from_mins(10)).await;
        assert_eq!(starts.load(Ordering::Relaxed), 10, "each pause is the first");
        tasks.abort();
        tasks.ended().await;
    }

    #[tokio::test]
    async fn a_panic_is_caught_and_the_others_go_on() {
        let one = async |n: u8| {
            assert!(n != 2, "as it was told to");
            n
        };
        let mut done = Vec::new();
        for n in 1..=3 {
            done.push(caught(one(n)).await);
        }
        assert_eq!(done, [Ok(1), Err(Lost), Ok(3)]);
    }
}
