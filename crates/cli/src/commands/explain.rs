//! `mainstay explain`: the story of an order, with the reason for each step.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use checker::Side;
use clap::Args;
use journal::clock::wall_now;
use local::Service;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use replay::client::READS_WITHIN;
use serde::Serialize;
use tokio::time::Instant;

use crate::explain::{
    Detail, Found, Logged, Requests, Stock, Timeline, UndecidedTries, Unreadable, Waiting, WithoutEntry,
    find_logged, picture, plain, text,
};
use crate::feeds::Feeds;
use crate::process::ProcessState;
use crate::screen::{Screen, print};
use crate::state::{Target, Which};

const LONG: &str = "\
Explain what happened to an order, and why

ID is an order's id, a reservation's, a correlation id (`X-Correlation-Id`, on every reply and in every log line), a \
trace id, an idempotency key, or a SKU. Both services' journals are read over their feeds, never their databases, \
and shown as one story in causal order: an entry's cause always comes before it, for any state of the clocks.

Each entry shows the reason for its decision (why: the inputs and the rule), the refused alternatives (not), and the \
middleware's observations (saw), with the requests that were sent and those that were refused here unsent. Where the order \
service did not know the outcome, the story says for how long, and what inventory had in fact decided. An order that \
waits is shown with its obstacle and its next try; a SKU with the orders that took its stock.

Both services are read at the same time, within 1.5 s. When one does not answer, the story says which half is missing.";

const EXAMPLES: &str = "\
Examples:
  mainstay explain 01a1fe12-6a76-71e9-b426-5b8604d9389c
  mainstay explain my-idempotency-key-0001 --svg story.svg
  mainstay explain 3a2cb84407d34fabac88b6c2622291cf --json | jq '.timeline.waits'

Exit code 1 when neither journal knows the id, 3 when the story is incomplete: a service did not answer, or an entry
cannot be read by this release.";

/// The exit code when a service's half of the story, or an entry, is missing.
const INCOMPLETE: u8 = 3;
/// The most orders that are asked about one by one: those that wait, or had tries without an entry.
const MOST_WAITING: usize = 5;

/// Explain what happened to an order, and why
#[derive(Debug, Args)]
#[command(long_about = LONG, after_long_help = EXAMPLES)]
pub(super) struct Explain {
    /// An order, a reservation, a correlation id, a trace id, an idempotency key, or a SKU
    id: String,
    /// Print the story as JSON, with every entry in full
    #[arg(long)]
    json: bool,
    /// Write the story as a swim-lane picture
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    #[command(flatten)]
    which: Which,
}

#[derive(Debug, Serialize)]
struct Story<'a> {
    asked: &'a str,
    known_as: &'a BTreeSet<&'static str>,
    /// Services whose half is missing, with the reason.
    missing: &'a BTreeMap<Side, String>,
    gaps: &'a [String],
    unreadable: &'a [Unreadable],
    requests: Requests,
    waiting: &'a [Waiting],
    stock: Option<&'a Stock>,
    timeline: &'a Timeline,
}

impl Explain {
    pub(super) async fn run(self) -> anyhow::Result<ExitCode> {
        let target = self.which.find()?;
        let (id, until) = (self.id.trim(), Instant::now() + READS_WITHIN);
        let feeds = Feeds::for_reads(&target)?;
        let mut found = feeds.everything_about(id, until).await?;
        let is_nothing = |found: &Found| found.entries.is_empty() && found.unreadable.is_empty();
        // A service that did not answer may know the id, so the logs are searched only when both answered.
        let is_unknown = is_nothing(&found) && found.unread.is_empty();
        let logged = target.home().filter(|_| is_unknown).and_then(|home| find_logged(home, id));
        if let Some(order) = logged.as_ref().and_then(|logged| logged.order) {
            found = feeds.everything_about(&order.to_string(), until).await?;
        }
        if is_nothing(&found) {
            return Ok(report_nothing(id, &found, logged.as_ref(), &target));
        }
        let mut stock = None;
        if found.known_as.contains("an item") {
            let sku = utf8_percent_encode(id, NON_ALPHANUMERIC);
            let path = format!("/admin/v1/items/{sku}/reservations");
            stock = feeds.document::<Stock>(Side::Inventory, &path, until, &mut found).await;
        }
        let entries = std::mem::take(&mut found.entries);
        // An incomplete journal proves nothing by its silence.
        let unread = found.unread.keys().copied().chain(found.unreadable.iter().map(|entry| entry.service));
        let mut timeline = Timeline::of(entries, wall_now()).without(unread.collect());
        let waits = timeline.waiting_orders();
        let mut waiting = Vec::new();
        for order in timeline.orders_with_tries_without_entry().into_iter().take(MOST_WAITING) {
            let path = format!("/admin/v1/orders/{order}/waiting");
            let Some(answer) = feeds.document::<Waiting>(Side::Order, &path, until, &mut found).await else {
                continue;
            };
            if let Some(UndecidedTries { sent, refused_here, unconnected, .. }) = answer.without_entry {
                timeline.without_entry.insert(order, WithoutEntry { sent, refused_here, unconnected });
            }
            waiting.push(answer);
        }
        if self.json {
            let story = Story {
                asked: id,
                known_as: &found.known_as,
                missing: &found.unread,
                gaps: &found.gaps,
                unreadable: &found.unreadable,
                requests: timeline.requests(),
                waiting: &waiting,
                stock: stock.as_ref(),
                timeline: &timeline,
            };
            print(&serde_json::to_string_pretty(&story)?)?;
        } else {
            let mut parts = opening(id, &found, logged.as_ref(), &target);
            parts.push(text(&timeline, Screen::open().width(), Detail::Full).trim_end().to_owned());
            parts.extend(waiting.iter().filter_map(|order| {
                if waits.contains(&order.id) {
                    Some(order.sentences().join("\n  "))
                } else {
                    order.undecided_tries()
                }
            }));
            parts.extend(stock.as_ref().map(|stock| stock.lines().join("\n")));
            parts.extend(closing(&found));
            print(&parts.join("\n\n"))?;
        }
        if let Some(file) = &self.svg {
            std::fs::write(file, picture(&timeline))
                .with_context(|| format!("{} cannot be written", file.display()))?;
            eprintln!("The picture is in {}.", file.display());
        }
        let is_whole = found.unread.is_empty() && found.unreadable.is_empty();
        Ok(if is_whole { ExitCode::SUCCESS } else { ExitCode::from(INCOMPLETE) })
    }
}

/// Prints where the id was searched, and why it may be in neither journal.
fn report_nothing(id: &str, found: &Found, logged: Option<&Logged>, target: &Target) -> ExitCode {
    if !found.unread.is_empty() {
        eprintln!("Not known yet: {} The other journal has no entry of {id:?}.", missing(found, target));
        return ExitCode::from(INCOMPLETE);
    }
    let asked_for: Vec<_> = found.asked_for.iter().copied().collect();
    eprintln!("Neither journal has an entry of {id:?}, which was searched as {}.", asked_for.join(", as "));
    eprintln!(
        "{}",
        match (logged, target.home()) {
            (Some(logged), _) => format!("A log has the request: {}. It left no entry.", logged.summary),
            (None, Some(home)) => {
                format!("The ends of both logs in {} have no request with it either.", home.display())
            }
            (None, None) => "The logs were not searched: `mainstay up` did not start this pair.".to_owned(),
        }
    );
    eprintln!(
        "A request leaves no entry when it only read, when it was refused before it began (400, 401, 403, 429, 503),\n\
         or when its reply was replayed (`Idempotent-Replayed: true`). For a replay, explain the order's `id` or the\n\
         `correlation_id` in the reply's body, or the idempotency key."
    );
    ExitCode::FAILURE
}

/// The first lines: which half of the story is missing, then what the id is.
fn opening(id: &str, found: &Found, logged: Option<&Logged>, target: &Target) -> Vec<String> {
    let mut parts = Vec::new();
    if !found.unread.is_empty() {
        parts.push(format!("Incomplete: {}", missing(found, target)));
    }
    let id = plain(id);
    parts.push(match logged {
        Some(Logged { summary, is_replay, .. }) => {
            let what = if *is_replay { "a request whose reply was replayed" } else { "a request" };
            format!("{id} is the correlation id of {what}: {summary}. It left no entry.\nIts order:")
        }
        None if found.known_as.is_empty() => format!("{id} is in entries that cannot be read."),
        None => {
            let known_as: Vec<_> = found.known_as.iter().copied().collect();
            format!("{id} is {}.", known_as.join(", and "))
        }
    });
    parts
}

/// A sentence that says which half is missing, and why.
fn missing(found: &Found, target: &Target) -> String {
    let each = found.unread.iter().map(|(side, why)| {
        let service = match side {
            Side::Order => Service::Order,
            Side::Inventory => Service::Inventory,
        };
        let process = target.pid(service).and_then(|pid| ProcessState::of(pid).map(|state| state.describe(pid)));
        let process = process.map_or_else(String::new, |state| format!("; {state}"));
        format!("the {side} service's half is missing, in whole or in part, because it does not answer ({why}{process}); see `mainstay status`.")
    });
    plain(&each.collect::<Vec<_>>().join(" "))
}

/// The last lines: entries that this release cannot read, and smaller missing parts.
fn closing(found: &Found) -> Vec<String> {
    let entry = |Unreadable { service, seq, why, entry }: &Unreadable| {
        let (why, entry) = (plain(why), plain(entry.get()));
        format!("Entry {seq} of the {service} journal is not readable by this release ({why}): {entry}")
    };
    let gaps = found.gaps.iter().map(|gap| format!("Missing: {}", plain(gap)));
    found.unreadable.iter().map(entry).chain(gaps).collect()
}
