//! Measurement of time and instructions.

use std::process::Command;
use std::sync::Barrier;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use layer_benches::Instance;
use tokio::time::Instant;

/// Length of a sample.
///
/// It is long enough to make the cost of the clock and of the start negligible, and short enough for other work on the
/// machine to affect all rows of a round.
const SAMPLE: Duration = Duration::from_millis(10);

fn time(instance: &Instance, calls: usize) -> Duration {
    let started = Instant::now();
    instance(calls);
    started.elapsed()
}

/// Number of calls that take about [`SAMPLE`].
pub(crate) fn calls_of_a_sample(instance: &Instance) -> usize {
    let mut calls = 256;
    loop {
        let took = time(instance, calls);
        if took >= SAMPLE / 4 || calls > 1 << 24 {
            let each = took.as_nanos().max(1) / calls as u128;
            return usize::try_from(SAMPLE.as_nanos() / each.max(1)).unwrap_or(calls).max(64);
        }
        calls *= 2;
    }
}

#[allow(clippy::cast_precision_loss)] // far below 2^52
fn each(took: Duration, calls: usize) -> f64 {
    took.as_nanos() as f64 / calls as f64
}

/// Nanoseconds per call with one task.
pub(crate) fn one_task(instance: &Instance, calls: usize) -> f64 {
    each(time(instance, calls), calls)
}

/// Nanoseconds per call while another thread makes the same calls on the same instance.
pub(crate) fn two_threads(instance: &Instance, calls: usize) -> f64 {
    let barrier = Barrier::new(2);
    let run = || {
        barrier.wait();
        each(time(instance, calls), calls)
    };
    thread::scope(|scope| {
        let other = scope.spawn(run);
        let first = run();
        let second = other.join().expect("a benchmark run does not panic");
        f64::midpoint(first, second)
    })
}

/// Instructions per call, counted under callgrind. The result is the difference of two runs, so that the start of the
/// program does not count.
pub(crate) fn instructions(id: &str) -> anyhow::Result<f64> {
    const FEW: u32 = 300;
    const MANY: u32 = 1_300;
    let (few, many) = (collected(id, FEW)?, collected(id, MANY)?);
    #[allow(clippy::cast_precision_loss)] // far below 2^52
    let more = many.saturating_sub(few) as f64;
    Ok(more / f64::from(MANY - FEW))
}

fn collected(id: &str, calls: u32) -> anyhow::Result<u64> {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(std::env::current_exe()?)
        .args(["one", id, &calls.to_string()])
        .output()
        .context("starting valgrind failed; it is needed to count instructions")?;
    let stderr = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "callgrind failed on {id}: {stderr}");
    let line = stderr.lines().find_map(|line| line.split_once("Collected : "));
    let (_, count) = line.with_context(|| format!("callgrind printed no count: {stderr}"))?;
    Ok(count.trim().parse()?)
}

/// Runs `work` for all items on two threads. The results keep the order of the items.
pub(crate) fn in_pairs<T: Sync, R: Send>(items: &[T], work: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let (even, odd) = thread::scope(|scope| {
        let odd = scope.spawn(|| items.iter().skip(1).step_by(2).map(&work).collect::<Vec<_>>());
        let even: Vec<_> = items.iter().step_by(2).map(&work).collect();
        (even, odd.join().expect("work returns its errors"))
    });
    let mut odd = odd.into_iter();
    even.into_iter().flat_map(|first| std::iter::once(first).chain(odd.next())).collect()
}

/// Median, minimum and maximum.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) least: f64,
    pub(crate) most: f64,
}

impl Spread {
    pub(crate) fn of(samples: &[f64]) -> Self {
        let mut sorted = samples.to_vec();
        sorted.sort_by(f64::total_cmp);
        let at = |n: usize| sorted.get(n).copied().unwrap_or(f64::NAN);
        Self { median: at(sorted.len() / 2), least: at(0), most: at(sorted.len().saturating_sub(1)) }
    }
}
