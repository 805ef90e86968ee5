//! Time and instructions.

use std::process::Command;
use std::sync::Barrier;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use layer_benches::Instance;
use tokio::time::Instant;

/// How long one sample runs. Long enough that the clock and the start of a run do not count, short enough that what
/// else a shared machine does falls on all rows of a round.
const SAMPLE: Duration = Duration::from_millis(10);

fn time(instance: &Instance, calls: usize) -> Duration {
    let began = Instant::now();
    instance(calls);
    began.elapsed()
}

/// So many calls that a sample takes its time.
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

/// Nanoseconds of a call with one task.
pub(crate) fn one_task(instance: &Instance, calls: usize) -> f64 {
    each(time(instance, calls), calls)
}

/// Nanoseconds of a call while another thread does the same on the same instance.
pub(crate) fn two_threads(instance: &Instance, calls: usize) -> f64 {
    let barrier = Barrier::new(2);
    let run = || {
        barrier.wait();
        each(time(instance, calls), calls)
    };
    thread::scope(|scope| {
        let other = scope.spawn(run);
        let mine = run();
        let theirs = other.join().expect("a run that panics is a fault of the benchmark");
        f64::midpoint(mine, theirs)
    })
}

/// Instructions of a call, counted under callgrind: the difference of two runs, so that the start does not count.
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
        .context("valgrind counts the instructions; is it installed?")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "callgrind failed on {id}: {said}");
    let line = said.lines().find_map(|line| line.split_once("Collected : "));
    let (_, count) = line.with_context(|| format!("callgrind said: {said}"))?;
    Ok(count.trim().parse()?)
}

/// Runs `work` on two threads, keeping the order.
pub(crate) fn in_pairs<T: Sync, R: Send>(items: &[T], work: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let (even, odd) = thread::scope(|scope| {
        let odd = scope.spawn(|| items.iter().skip(1).step_by(2).map(&work).collect::<Vec<_>>());
        let even: Vec<_> = items.iter().step_by(2).map(&work).collect();
        (even, odd.join().expect("work returns its errors"))
    });
    let mut odd = odd.into_iter();
    even.into_iter().flat_map(|first| std::iter::once(first).chain(odd.next())).collect()
}

/// The middle, the least and the most.
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
