//! Tests with seeded schedules of faults over live processes under load. `testkit::nemesis` describes the schedules.
//!
//! An ordinary run takes three seeds. Environment variables select others:
//!
//! | variable | |
//! |---|---|
//! | `MAINSTAY_NEMESIS_SEED` | the seed to run |
//! | `MAINSTAY_NEMESIS_COUNT` | the number of seeds to run, from that seed on (from 1 when no seed is given) |
//! | `MAINSTAY_NEMESIS_FILE` | a file with the schedule to run |
//! | `MAINSTAY_NEMESIS_DIR` | the directory for failed schedules and the services' logs; `target/tmp` by default |
//! | `MAINSTAY_NEMESIS_SHRINK` | search for the smallest part of a failed schedule that still fails; the value is the number of runs of each part |
//!
//! ```sh
//! MAINSTAY_NEMESIS_SEED=7 cargo test -p pair-tests --test it nemesis -- --nocapture
//! ```

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use testkit::nemesis::{Failure, Run, Schedule, smallest};

use crate::support::setup;

/// Seeds of an ordinary run. Together they put faults at every kind of place, and have replicas and short holds. None needs
/// the reconciler's lease (15 s) to end.
const ORDINARY: [u64; 3] = [2, 9, 30];

/// Number of tests that share the seeds, so that they run at the same time like other tests.
const SHARES: usize = 3;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn seeded_faults_under_load_lose_and_duplicate_nothing_first_share() {
    share(0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn seeded_faults_under_load_lose_and_duplicate_nothing_second_share() {
    share(1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn seeded_faults_under_load_lose_and_duplicate_nothing_third_share() {
    share(2).await;
}

/// Runs every third schedule, and fails with the failures of all of them.
async fn share(number: usize) {
    let mut failed = Vec::new();
    for schedule in asked_for().unwrap().iter().skip(number).step_by(SHARES) {
        if let Some(failure) = judged(schedule).await {
            failed.push(told(schedule, &failure).await);
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n\n"));
}

fn variable(name: &str) -> anyhow::Result<Option<u64>> {
    let value = std::env::var(name).ok();
    value.map(|value| value.parse().with_context(|| format!("{name}={value}"))).transpose()
}

fn asked_for() -> anyhow::Result<Vec<Schedule>> {
    if let Some(file) = std::env::var_os("MAINSTAY_NEMESIS_FILE") {
        let path = Path::new(&file).display().to_string();
        let text = std::fs::read_to_string(&file).with_context(|| path.clone())?;
        return Ok(vec![Schedule::from_lines(&text).context(path)?]);
    }
    let (seed, count) = (variable("MAINSTAY_NEMESIS_SEED")?, variable("MAINSTAY_NEMESIS_COUNT")?);
    let seeds: Vec<u64> = match (seed, count) {
        (None, None) => ORDINARY.to_vec(),
        (Some(seed), None) => vec![seed],
        (seed, Some(count)) => (0..count).map(|n| seed.unwrap_or(1).wrapping_add(n)).collect(),
    };
    Ok(seeds.into_iter().map(Schedule::of_seed).collect())
}

/// Runs a schedule, prints its result, and gives its failure.
async fn judged(schedule: &Schedule) -> Option<Failure> {
    let seed = schedule.settings.seed;
    let began = tokio::time::Instant::now();
    let run = testkit::nemesis::run(setup(), schedule, &logs(seed)).await;
    let run: Run = run.unwrap_or_else(|error| panic!("seed {seed} could not be run: {error:#}"));
    let (steps, took) = (schedule.steps.len(), began.elapsed().as_secs_f64());
    eprintln!("nemesis seed {seed}, {steps} faults, {took:.1} s: {run}");
    run.failure
}

/// Writes a failed schedule to a file, and its smallest failing part if requested. Gives the command that runs it again.
async fn told(schedule: &Schedule, failure: &Failure) -> String {
    let seed = schedule.settings.seed;
    let logs = logs(seed);
    let file = kept(schedule, &format!("nemesis-{seed}.jsonl"));
    let mut text = format!("{}\nthe services' logs are in {}\n{file}", failure.text, logs.display());
    if let Some(tries) = variable("MAINSTAY_NEMESIS_SHRINK").unwrap() {
        let steps = smallest(schedule.steps.clone(), async |steps| {
            let part = schedule.with(steps.to_vec());
            for _ in 0..tries {
                if judged(&part).await.is_some_and(|other| other.is_like(failure)) {
                    return true;
                }
            }
            false
        })
        .await;
        text = text + "\n" + &kept(&schedule.with(steps), &format!("nemesis-{seed}-smallest.jsonl"));
    }
    text
}

fn place(name: &str) -> PathBuf {
    let given = std::env::var_os("MAINSTAY_NEMESIS_DIR").map(PathBuf::from);
    given.unwrap_or_else(|| env!("CARGO_TARGET_TMPDIR").into()).join(name)
}

fn logs(seed: u64) -> PathBuf {
    place(&format!("nemesis-{seed}.logs"))
}

fn kept(schedule: &Schedule, name: &str) -> String {
    let path = std::path::absolute(place(name)).unwrap();
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(&path, schedule.to_lines().unwrap()).unwrap();
    let path = path.display();
    format!(
        "{} faults; again:\n  MAINSTAY_NEMESIS_FILE={path} cargo test -p pair-tests --test it nemesis",
        schedule.steps.len()
    )
}
