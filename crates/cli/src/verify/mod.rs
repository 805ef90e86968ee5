//! Holding both journals and all tables against the contract's invariants, and telling what came of it.

use std::fmt::Write;

use anyhow::Context;
use checker::postgres::{Dump, dump, under_way};
use checker::{Checker, ClientRequest, Contract, Observed, Recorded, Report, Side};
use journal::feed::Page;
use local::Service;
use local::pair::Databases;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use sqlx::{Connection, PgConnection};
use tokio::time::{Duration, Instant, sleep, timeout};

use crate::client::Client;
use crate::explain::Feeds;
use crate::screen::grouped;

/// Entries of a page of a feed.
const PAGE: usize = 1_000;
/// A database that takes longer to accept a session is not there.
const CONNECT_WITHIN: Duration = Duration::from_secs(10);
/// Between two looks at a database that is not at rest yet.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// What both services promise, from their own code.
pub(crate) fn contract() -> Contract<'static> {
    let order = order_service::domain::TRANSITIONS;
    let order = order.into_iter().map(|(from, to)| (order_service::domain::rules::KIND, from, to));
    Contract::new(order.chain(inventory_service::domain::TRANSITIONS), |rule, inputs| {
        let decided = if rule.starts_with("order.") {
            order_service::domain::rules::replay(rule, inputs)
        } else {
            inventory_service::domain::replay(rule, inputs)
        };
        decided.map_err(|error| error.to_string())
    })
}

/// Everything that can be known of a pair.
#[derive(Debug)]
pub(crate) struct Evidence {
    pub(crate) entries: Vec<(Side, Recorded)>,
    pub(crate) observed: Observed,
}

impl Evidence {
    /// From both databases, in the services' own roles: tables and journal of one moment each.
    pub(crate) async fn of_databases(urls: &Databases) -> anyhow::Result<Self> {
        // The order service first: what it knows of inventory is then in inventory's journal.
        let mut order = read(Service::Order, &urls.order).await?;
        let mut inventory = read(Service::Inventory, &urls.inventory).await?;
        let observed = Observed::of_dumps(&mut order, &mut inventory);
        let order = order.journal.into_iter().map(|recorded| (Side::Order, recorded));
        let inventory = inventory.journal.into_iter().map(|recorded| (Side::Inventory, recorded));
        Ok(Self { entries: order.chain(inventory).collect(), observed })
    }

    /// From both feeds, where the databases cannot be reached: the tables are then not checked.
    pub(crate) async fn of_feeds(feeds: &Feeds) -> anyhow::Result<Self> {
        let mut entries = Vec::new();
        for (side, client) in [(Side::Order, &feeds.order), (Side::Inventory, &feeds.inventory)] {
            let journal =
                whole(client).await.with_context(|| format!("the {side} journal cannot be read"))?;
            entries.extend(journal.into_iter().map(|recorded| (side, recorded)));
        }
        Ok(Self { entries, observed: Observed::default() })
    }

    /// Adds what clients were told.
    pub(crate) fn told(&mut self, requests: Vec<ClientRequest>) {
        self.observed.requests = requests;
    }

    /// Checks every invariant.
    pub(crate) fn check(&self, at_rest: bool) -> Report {
        let contract = contract();
        let mut checker = Checker::new(&contract);
        for (side, recorded) in &self.entries {
            checker.entry(*side, recorded);
        }
        checker.finish(&Observed { at_rest, ..self.observed.clone() })
    }
}

async fn read(service: Service, url: &str) -> anyhow::Result<Dump> {
    let mut connection = connect(service, url).await?;
    let dump = dump(&mut connection, side(service)).await;
    let dump = dump.with_context(|| format!("the {service} service's database cannot be read"))?;
    connection.close().await.with_context(|| format!("closing the session at the {service} database"))?;
    Ok(dump)
}

/// Waits until nothing is under way in either database: work that its caller gave up may still be going on. What is
/// still under way after `within`, if anything.
pub(crate) async fn come_to_rest(urls: &Databases, within: Duration) -> anyhow::Result<Option<String>> {
    let until = Instant::now() + within;
    for (service, url) in [(Service::Order, &urls.order), (Service::Inventory, &urls.inventory)] {
        let mut connection = connect(service, url).await?;
        while let Some(what) = under_way(&mut connection, side(service)).await? {
            if Instant::now() >= until {
                return Ok(Some(format!("{service}: {what}")));
            }
            sleep(LOOK_AGAIN).await;
        }
        connection.close().await?;
    }
    Ok(None)
}

fn side(service: Service) -> Side {
    match service {
        Service::Order => Side::Order,
        Service::Inventory => Side::Inventory,
    }
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

async fn whole(client: &Client) -> anyhow::Result<Vec<Recorded>> {
    let mut entries = Vec::new();
    let mut path = format!("/admin/v1/journal?limit={PAGE}");
    loop {
        let Page { items, next, more, .. } = client.get_json(&path).await?;
        for item in &items {
            entries
                .push(Recorded::from_item(item).with_context(|| format!("the entry with seq {}", item.seq))?);
        }
        let Some(next) = next.filter(|_| more) else { return Ok(entries) };
        path =
            format!("/admin/v1/journal?limit={PAGE}&after={}", utf8_percent_encode(&next, NON_ALPHANUMERIC));
    }
}

/// Every sentence of every invariant, with how many facts it was held against.
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
        let number = finding.invariant;
        put(&mut text, format_args!("  {number:>2}  {says:<76} {verdict}{deferred}\n"));
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

/// The same, one line for each of the twelve invariants that could be held against anything; what broke, in full.
pub(crate) fn by_invariant(report: &Report) -> String {
    let mut text = String::new();
    for number in 1..=12 {
        let rules: Vec<_> = report.findings.iter().filter(|finding| finding.invariant == number).collect();
        let checked: u64 = rules.iter().map(|finding| finding.checked).sum();
        let violated: u64 = rules.iter().map(|finding| finding.violated).sum();
        let what = INVARIANTS[usize::from(number) - 1];
        match (checked, violated) {
            (0, 0) => put(&mut text, format_args!("          {number:>2}  {what:<66} not seen from here\n")),
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

/// The contract's invariants in a few words each.
const INVARIANTS: [&str; 12] = [
    "stock: received = on hand + shipped, held = held reservations",
    "one order per key, one live reservation per order",
    "what was acknowledged is there, what was not executed is not",
    "orders and reservations agree; nothing open, nothing held for nobody",
    "only legal transitions, no gap in versions, terminal is final",
    "the tables are what the journals add up to",
    "every entry has its cause, across both services, clocks follow",
    "all final replies to one key are equal, byte by byte",
    "nothing starts after its deadline",
    "attempts stay within their budget",
    "no database session sits in a transaction",
    "every decision executes again to the same result, every hash fits",
];

/// Violations of one rule that are shown as text.
const SHOWN: usize = 10;

fn put(text: &mut String, arguments: std::fmt::Arguments<'_>) {
    text.write_fmt(arguments).expect("a String takes everything");
}
