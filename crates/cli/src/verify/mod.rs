//! The check of both journals and all tables against the contract's invariants, and the text of its result.

use std::fmt::Write;

use anyhow::Context;
use checker::postgres::{PairDump, dump_pair, under_way};
use checker::{ClientRequest, Contract, JournalRow, Observed, Recorded, Report, Side};
use journal::feed::Page;
use local::Service;
use local::pair::Databases;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use replay::Client;
use sqlx::{Connection, PgConnection};
use tokio::time::{Duration, Instant, sleep, timeout};

use crate::feeds::Feeds;
use crate::screen::grouped;

/// Entries per page of a feed.
const PAGE: usize = 1_000;
/// The time limit for a session; a database that takes longer counts as unreachable.
const CONNECT_WITHIN: Duration = Duration::from_secs(10);
/// The interval of checks whether the databases are at rest.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// The contract of both services, from their own code.
pub(crate) fn contract() -> Contract<'static> {
    let order = order_service::domain::TRANSITIONS;
    let order = order.into_iter().map(|(from, to)| (order_service::domain::decisions::KIND, from, to));
    Contract::new(order.chain(inventory_service::domain::TRANSITIONS), |rule, inputs| {
        if rule.starts_with("order.") {
            order_service::domain::decisions::replay(rule, inputs)
        } else {
            inventory_service::domain::replay(rule, inputs)
        }
    })
}

/// The evidence about a pair: journals, tables, sessions and client requests.
#[derive(Debug)]
pub(crate) struct Evidence(PairDump);

impl Evidence {
    /// Reads both databases in the services' own roles: tables and journal of one moment each.
    pub(crate) async fn of_databases(urls: &Databases) -> anyhow::Result<Self> {
        let (mut order, mut inventory) = both(urls).await?;
        let dump = dump_pair(&mut order, &mut inventory).await?;
        close(order, inventory).await?;
        Ok(Self(dump))
    }

    /// Reads both feeds, where the databases cannot be reached. The tables are then not checked.
    pub(crate) async fn of_feeds(feeds: &Feeds) -> anyhow::Result<Self> {
        let mut entries = Vec::new();
        for side in [Side::Order, Side::Inventory] {
            let journal = whole(feeds.client(side))
                .await
                .with_context(|| format!("the {side} journal cannot be read"))?;
            entries.extend(journal.into_iter().map(|row| (side, row)));
        }
        Ok(Self(PairDump { entries, observed: Observed::default() }))
    }

    /// Adds the client requests with their replies.
    pub(crate) fn add_requests(&mut self, requests: Vec<ClientRequest>) {
        self.0.observed.requests = requests;
    }

    /// Checks every invariant.
    pub(crate) fn check(&mut self, at_rest: bool) -> Report {
        self.0.observed.at_rest = at_rest;
        self.0.check(&contract())
    }

    /// Returns the entries that this release can read.
    pub(crate) fn into_entries(self) -> Vec<(Side, Recorded)> {
        self.0.into_entries()
    }
}

/// Waits until both databases are at rest: work that its caller gave up may still be in flight. Returns the work that
/// is still in flight after `within`, if any.
pub(crate) async fn come_to_rest(urls: &Databases, within: Duration) -> anyhow::Result<Option<String>> {
    let until = Instant::now() + within;
    let (mut order, mut inventory) = both(urls).await?;
    while let Some(what) = under_way(&mut order, &mut inventory).await? {
        if Instant::now() >= until {
            return Ok(Some(what));
        }
        sleep(LOOK_AGAIN).await;
    }
    close(order, inventory).await?;
    Ok(None)
}

async fn both(urls: &Databases) -> anyhow::Result<(PgConnection, PgConnection)> {
    let order = connect(Service::Order, &urls.order).await?;
    Ok((order, connect(Service::Inventory, &urls.inventory).await?))
}

async fn close(order: PgConnection, inventory: PgConnection) -> anyhow::Result<()> {
    order.close().await.context("closing the session at the order database")?;
    inventory.close().await.context("closing the session at the inventory database")
}

async fn connect(service: Service, url: &str) -> anyhow::Result<PgConnection> {
    let connection = timeout(CONNECT_WITHIN, PgConnection::connect(url)).await;
    let connection = connection.context("it does not answer").and_then(|connected| Ok(connected?));
    connection.with_context(|| {
        format!(
            "the {service} service's database cannot be reached; is the pair running? See `mainstay status`"
        )
    })
}

async fn whole(client: &Client) -> anyhow::Result<Vec<JournalRow>> {
    let mut entries = Vec::new();
    let mut path = format!("/admin/v1/journal?limit={PAGE}");
    loop {
        let Page { items, next, more, .. } = client.get_json(&path).await?;
        entries.extend(items.iter().map(JournalRow::of));
        let Some(next) = next.filter(|_| more) else { return Ok(entries) };
        path =
            format!("/admin/v1/journal?limit={PAGE}&after={}", utf8_percent_encode(&next, NON_ALPHANUMERIC));
    }
}

/// The table of rules, each with the number of checked facts.
pub(crate) fn table(report: &Report) -> String {
    let mut text = String::new();
    for finding in &report.findings {
        let (says, checked) = (finding.rule.says(), grouped(finding.checked));
        let verdict = match (finding.violated, finding.checked) {
            (0, 0) => "-  nothing to check".to_owned(),
            (0, _) => format!("{checked}  hold"),
            (violated, _) => format!("{checked}  BROKEN by {}", grouped(violated)),
        };
        let deferred = match finding.deferred {
            0 => String::new(),
            deferred => format!(", {} can be judged at rest only", grouped(deferred)),
        };
        let not_judged = match finding.not_judged {
            0 => String::new(),
            not_judged => format!(", {} not judged", grouped(not_judged)),
        };
        let number = finding.invariant;
        put(&mut text, format_args!("  {number:>2}  {says:<76} {verdict}{deferred}{not_judged}\n"));
        for violation in finding.violations.iter().take(SHOWN) {
            put(&mut text, format_args!("        {violation}\n"));
        }
        if finding.violations.len() > SHOWN {
            put(
                &mut text,
                format_args!("        and {} more: see --json\n", finding.violated - SHOWN as u64),
            );
        }
    }
    text
}

/// The list of entries and rows that this release cannot read; empty when it can read all.
pub(crate) fn not_judged(report: &Report) -> String {
    let mut text = String::new();
    if report.is_judged() {
        return text;
    }
    let kinds: Vec<_> =
        report.not_judged.iter().map(|(unknown, count)| format!("{} {unknown}", grouped(*count))).collect();
    let total: u64 = report.not_judged.values().sum();
    put(&mut text, format_args!("Not judged, because this release cannot read it: {}.\n", kinds.join(", ")));
    for item in report.not_judged_shown.iter().take(SHOWN) {
        put(&mut text, format_args!("        {item}\n"));
    }
    if total > SHOWN as u64 {
        put(&mut text, format_args!("        and {} more: see --json\n", grouped(total - SHOWN as u64)));
    }
    text
}

/// Lines about the offsets of the hosts' clocks.
pub(crate) fn clocks(report: &Report) -> String {
    let mut text = String::new();
    for offset in &report.clocks.offsets {
        put(&mut text, format_args!("Clocks: {offset}.\n"));
    }
    if report.clocks.not_adopted > 0 {
        put(
            &mut text,
            format_args!(
                "Clocks: {} entries have a hybrid time before their cause's: they were written before clocks that \
                 far ahead were adopted.\n",
                grouped(report.clocks.not_adopted)
            ),
        );
    }
    text
}

/// A table of the twelve invariants, one line each, with the violations of each.
pub(crate) fn by_invariant(report: &Report) -> String {
    let mut text = String::new();
    for number in 1..=12 {
        let rules: Vec<_> = report.findings.iter().filter(|finding| finding.invariant == number).collect();
        let checked: u64 = rules.iter().map(|finding| finding.checked).sum();
        let violated: u64 = rules.iter().map(|finding| finding.violated).sum();
        let what = INVARIANTS[usize::from(number) - 1];
        match (checked, violated) {
            (0, 0) => put(&mut text, format_args!("          {number:>2}  {what:<66} not checked here\n")),
            (checked, 0) => {
                put(
                    &mut text,
                    format_args!("          {number:>2}  {what:<66} {} facts\n", grouped(checked)),
                );
            }
            (checked, violated) => put(
                &mut text,
                format_args!("          {number:>2}  {what:<66} BROKEN by {violated} of {checked}\n"),
            ),
        }
        for violation in rules.iter().flat_map(|finding| finding.violations.iter().take(SHOWN)) {
            put(&mut text, format_args!("              {violation}\n"));
        }
    }
    text
}

/// The result in one sentence: the number of checked invariants, and which tests check the others.
pub(crate) fn conclusion(report: &Report) -> String {
    if report.is_broken() {
        return "the contract is broken".to_owned();
    }
    let (checked, others) = report.invariants();
    let judged = if report.is_judged() { "" } else { " by all that this release can read" };
    let mut text =
        format!("{} of {} invariants were checked and hold{judged}", checked.len(), INVARIANTS.len());
    if !others.is_empty() {
        let others: Vec<_> = others.iter().map(u8::to_string).collect();
        let others = others.join(", ");
        put(&mut text, format_args!("; tests check the others, {others} (`cargo test -p pair-tests`)"));
    }
    text
}

/// Short names of the contract's invariants.
const INVARIANTS: [&str; 12] = [
    "stock: received = on hand + shipped, held = held reservations",
    "one order per key, one live reservation per order",
    "acknowledged effects are there, not-executed ones are not",
    "orders and reservations agree; at rest none is open or orphaned",
    "only legal transitions, no gap in versions, terminal is final",
    "the tables equal the fold of the journals",
    "every entry has its cause in either service; clocks follow causes",
    "all final replies to one key are equal, byte by byte",
    "no work starts after its deadline",
    "attempts stay within their budget",
    "no database session is idle in a transaction",
    "every decision executes again to the same result, every hash fits",
];

/// The number of violations of one rule that are shown.
const SHOWN: usize = 10;

fn put(text: &mut String, arguments: std::fmt::Arguments<'_>) {
    text.write_fmt(arguments).expect("a String takes everything");
}
