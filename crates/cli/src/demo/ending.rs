//! The end of the demo: whether the invariants hold, whether everything is resolved, and the figures.

use std::fmt::Write;
use std::time::Duration;

use anyhow::Context;
use checker::Report;
use journal::clock::wall_now;
use local::Service;
use local::pair::RunningPair;
use replay::{Counts, Outcome, RequestLog, at_quantile};

use super::narrator::Narrator;
use super::script::{ACTS, Moments};
use super::story::{self, Recovery};
use crate::explain::{Detail, Timeline, picture, text};
use crate::screen::grouped;
use crate::verify::{Evidence, by_invariant, clocks, come_to_rest, conclusion, not_judged};

/// The number of orders that are placed again under their old keys.
pub(super) const ASKED_AGAIN: usize = 80;

/// The time for the pair to come to rest: twice the longest time of a transaction, because work whose caller gave up
/// still ends within one.
const REST_WITHIN: Duration = Duration::from_secs(16);

pub(super) const NEXT: &str = "
What to try next:
  mainstay up                       the pair, to work with yourself; then, in another terminal,
  mainstay replay --rate 50         orders against it (or: mainstay replay online-retail.csv)
  mainstay explain ID               any order, reservation, correlation id, trace id or key, as a story
  mainstay verify                   the same check of both journals as above
  mainstay --file online-retail.csv --svg story.svg
                                    this demo with real orders, and the story as a picture
  mainstay --keep                   this demo, and the pair stays up for explain and verify";

/// The result of the demo.
#[derive(Debug)]
pub(super) struct Assessment {
    /// True if the invariants hold and everything is resolved.
    pub(super) is_good: bool,
    report: Report,
    recovery: Recovery,
    best: Option<Timeline>,
}

/// Reads both databases and checks them.
pub(super) async fn judge(
    pair: &RunningPair,
    log: &RequestLog,
    counts: &Counts,
    moments: &Moments,
    narrator: &mut Narrator,
) -> anyhow::Result<Assessment> {
    let requests = log.requests();
    let databases = &pair.ready().databases;
    if let Some(what) = come_to_rest(databases, REST_WITHIN).await? {
        narrator.at(&format!("the pair is not at rest within {}: {what}", span(REST_WITHIN)))?;
    }
    narrator.at(&format!(
        "checking both journals, all tables and {} answers that clients had",
        grouped(requests.len() as u64)
    ))?;
    let mut evidence = Evidence::of_databases(databases).await.context("reading both databases")?;
    evidence.add_requests(requests);
    let report = evidence.check(true);
    narrator.plain(by_invariant(&report).trim_end())?;
    let more = not_judged(&report) + &clocks(&report);
    if !more.is_empty() {
        narrator.plain(more.trim_end())?;
    }
    let failed = counts.of(Outcome::Failed);
    let is_good = report.is_clean() && failed == 0;
    let concluded = conclusion(&report);
    narrator.at(&match (report.is_clean(), failed) {
        (true, 0) => format!("everything is resolved; {concluded}"),
        (true, failed) => format!("{failed} requests were given up; {concluded}"),
        (false, _) if report.is_broken() => "THE CONTRACT IS BROKEN: see above".to_owned(),
        (false, _) => "NOT EVERYTHING COULD BE JUDGED: see above".to_owned(),
    })?;
    let entries = evidence.into_entries();
    let stories = story::by_order(&entries);
    let recovery = story::recovery(&stories, moments.healed);
    let best = story::best(&stories, moments.trouble, wall_now());
    Ok(Assessment { is_good, report, recovery, best })
}

impl Assessment {
    pub(super) fn story(&self, width: usize) -> Option<String> {
        self.best.as_ref().map(|timeline| text(timeline, width, Detail::Brief).trim_end().to_owned())
    }

    pub(super) fn picture(&self) -> Option<String> {
        self.best.as_ref().map(picture)
    }

    pub(super) fn summary(&self, counts: &Counts, pair: &RunningPair) -> String {
        let mut text = String::new();
        let ended: Vec<_> = Outcome::ALL
            .into_iter()
            .filter(|outcome| counts.of(*outcome) > 0)
            .map(|outcome| format!("{} {}", grouped(counts.of(outcome)), outcome.as_str()))
            .collect();
        put(&mut text, format_args!("  orders and returns   {}\n", ended.join(", ")));
        put(
            &mut text,
            format_args!(
                "  not known at once    {} answers were 202; {} orders were in an unknown state for a while\n",
                grouped(counts.accepted),
                grouped(self.recovery.unknown as u64)
            ),
        );
        let Recovery { open, half, all, .. } = self.recovery;
        put(
            &mut text,
            format_args!(
                "  after the return     {open} open orders; half of them decided within {}, all within {}\n",
                span(half),
                span(all)
            ),
        );
        put(
            &mut text,
            format_args!(
                "  sent once more       {} requests under their own keys, {} of them because their effect was not known; \
                 {} more were held back here, unsent\n",
                grouped(counts.repeated),
                grouped(counts.unknown),
                grouped(counts.held_back)
            ),
        );
        let facts: u64 = self.report.findings.iter().map(|finding| finding.checked).sum();
        let concluded = conclusion(&self.report).replace("; ", ";\n                       ");
        put(&mut text, format_args!("  invariants           {concluded}\n"));
        let entries = grouped(self.report.entries);
        put(
            &mut text,
            format_args!("                       {} facts from {entries} journal entries\n", grouped(facts)),
        );
        let memory: Vec<_> = Service::BOTH
            .into_iter()
            .filter_map(|service| Some(format!("{service} {} MiB", resident_mib(pair.pid(service)?)?)))
            .collect();
        if !memory.is_empty() {
            put(&mut text, format_args!("  memory               {}\n", memory.join(", ")));
        }
        text.push_str(
            "\n  waits from when an order was due   orders   answered p50     p99   decided p50     p99\n",
        );
        for (act, waits) in ACTS.into_iter().zip(&counts.phases) {
            let (answered, decided) = (&waits.answered, &waits.decided);
            put(
                &mut text,
                format_args!(
                    "  {act:<32}  {:>7}   {:>12}  {:>6}   {:>11}  {:>6}\n",
                    grouped(answered.len()),
                    at_quantile(answered, 0.5),
                    at_quantile(answered, 0.99),
                    at_quantile(decided, 0.5),
                    at_quantile(decided, 0.99)
                ),
            );
        }
        for failure in &counts.failures {
            put(&mut text, format_args!("  failed: {failure}\n"));
        }
        text.truncate(text.trim_end().len());
        text
    }
}

fn span(span: Duration) -> String {
    crate::explain::span(i64::try_from(span.as_millis()).unwrap_or(i64::MAX))
}

/// The resident memory of a process in MiB; `None` on systems without `/proc`.
fn resident_mib(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kib / 1_024)
}

fn put(text: &mut String, arguments: std::fmt::Arguments<'_>) {
    text.write_fmt(arguments).expect("a String takes everything");
}
