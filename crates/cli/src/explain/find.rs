//! The search for everything that belongs to an id, through both services' journal feeds. The id is searched in every
//! way that its form allows at once; the entries that are found lead to whole orders with their reservations.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{anyhow, bail};
use checker::{Recorded, Side};
use futures_util::future::join_all;
use journal::feed::Page;
use journal::hex;
use journal::{ITEM_NAMESPACE, KeyHash};
use mainstay::CorrelationId;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use tokio::time::{Instant, timeout_at};
use uuid::Uuid;

use crate::feeds::Feeds;

/// Entries per request; an order has about ten.
const LIMIT: usize = 1_000;
/// The most orders of one story. One id can lead to many orders, the trace of a batch for example.
const MOST_ORDERS: usize = 20;

/// The result of the search.
#[derive(Debug, Default)]
pub(crate) struct Found {
    pub(crate) entries: Vec<(Side, Recorded)>,
    /// The kinds of id that the id turned out to be.
    pub(crate) known_as: BTreeSet<&'static str>,
    /// The kinds of id that were searched.
    pub(crate) asked_for: BTreeSet<&'static str>,
    /// Services whose journals could not be read, with the reason: half of the view is missing.
    pub(crate) unread: BTreeMap<Side, String>,
    /// Entries that this release cannot read.
    pub(crate) unreadable: Vec<Unreadable>,
    /// Smaller parts that are missing.
    pub(crate) gaps: Vec<String>,
}

/// An entry that this release cannot read, unchanged.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Unreadable {
    pub(crate) service: Side,
    pub(crate) seq: i64,
    pub(crate) why: String,
    pub(crate) entry: Box<RawValue>,
}

/// A filter of a feed.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Filter {
    name: &'static str,
    value: String,
}

impl Filter {
    fn aggregate(id: Uuid) -> Self {
        Self { name: "aggregate_id", value: id.to_string() }
    }

    fn meaning(&self) -> &'static str {
        match self.name {
            "aggregate_id" => "an order, a reservation or a SKU",
            "correlation_id" => "a correlation id",
            "trace_id" => "a trace id",
            _ => "an idempotency key",
        }
    }

    /// All filters that the form of `id` allows.
    fn all_of(id: &str) -> Vec<Self> {
        let mut filters: Vec<_> = id.parse().ok().map(Self::aggregate).into_iter().collect();
        if CorrelationId::parse(id).is_ok() {
            filters.push(Self { name: "correlation_id", value: id.to_owned() });
        }
        if id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            filters.push(Self { name: "trace_id", value: id.to_ascii_lowercase() });
        }
        if (16..=255).contains(&id.len()) && id.bytes().all(|byte| (0x20..0x7f).contains(&byte)) {
            filters.push(Self { name: "key_hash", value: hex(KeyHash::of(id).as_bytes()) });
        }
        if inventory_api::validate::is_identifier(id) {
            filters.push(Self::aggregate(Uuid::new_v5(&ITEM_NAMESPACE, id.as_bytes())));
        }
        filters
    }
}

impl Feeds {
    /// Finds everything about `id` that both services return until `until`; no entries when neither knows it. A
    /// service that did not answer one request gets no other.
    pub(crate) async fn everything_about(&self, id: &str, until: Instant) -> anyhow::Result<Found> {
        let mut found = Found::default();
        let filters = Filter::all_of(id);
        found.asked_for = filters.iter().map(Filter::meaning).collect();
        for (filter, entries) in self.ask(filters, until, &mut found).await? {
            found.known_as.extend(entries.iter().map(|(_, recorded)| known_as(&filter, recorded)));
            found.entries.extend(entries);
        }
        if found.unread.contains_key(&Side::Order)
            && found.entries.is_empty()
            && let Ok(order) = id.parse::<Uuid>()
        {
            // Only the order service's journal has the order's id; inventory has the reservation id that is derived
            // from it.
            let reservation = order_service::app::advance::derived(order, "reservation");
            self.add(vec![Filter::aggregate(reservation)], until, &mut found).await?;
            if !found.entries.is_empty() {
                found.known_as.insert("an order");
            }
        }
        self.complete(until, &mut found).await?;
        Ok(found)
    }

    /// Reads a JSON document of one service, for the part of the story that is not in its journal. A failure is a
    /// gap.
    pub(crate) async fn document<T: DeserializeOwned>(
        &self,
        side: Side,
        path: &str,
        until: Instant,
        found: &mut Found,
    ) -> Option<T> {
        if found.unread.contains_key(&side) {
            return None;
        }
        match timeout_at(until, self.client(side).get_json(path)).await {
            Ok(Ok(document)) => Some(document),
            Ok(Err(error)) => {
                found.gap(format!("the {side} service did not return {path}: {}", error.root_cause()));
                None
            }
            Err(_elapsed) => {
                found.gap(format!("the {side} service did not return {path} in time"));
                None
            }
        }
    }

    /// Adds the complete order and reservation of every entry that was found.
    async fn complete(&self, until: Instant, found: &mut Found) -> anyhow::Result<()> {
        // A reservation that was voided before its reserve arrived does not name its order; the correlation id of its
        // request leads there.
        let orphans: BTreeSet<String> = found
            .entries
            .iter()
            .filter(|(side, recorded)| *side == Side::Inventory && order_of(recorded).is_none())
            .filter(|(_, recorded)| recorded.entry.aggregate_kind == "reservation")
            .map(|(_, recorded)| recorded.entry.correlation_id.to_string())
            .collect();
        let filters = orphans.into_iter().map(|value| Filter { name: "correlation_id", value });
        self.add(filters.collect(), until, found).await?;
        let mut orders: BTreeSet<Uuid> = found.entries.iter().filter_map(|(_, r)| order_of(r)).collect();
        if orders.len() > MOST_ORDERS {
            found.gap(format!("the id leads to {} orders; {MOST_ORDERS} of them are shown", orders.len()));
            orders = orders.into_iter().take(MOST_ORDERS).collect();
            found
                .entries
                .retain(|(_, recorded)| order_of(recorded).is_none_or(|order| orders.contains(&order)));
        }
        self.add(orders.into_iter().map(Filter::aggregate).collect(), until, found).await?;
        let reservations: BTreeSet<Uuid> = found
            .entries
            .iter()
            .filter(|(_, recorded)| recorded.entry.aggregate_kind == "order")
            .filter_map(|(_, recorded)| recorded.entry.inputs.get("reservation_id")?.as_str()?.parse().ok())
            .collect();
        self.add(reservations.into_iter().map(Filter::aggregate).collect(), until, found).await
    }

    async fn add(&self, filters: Vec<Filter>, until: Instant, found: &mut Found) -> anyhow::Result<()> {
        for (_, entries) in self.ask(filters, until, found).await? {
            found.entries.extend(entries);
        }
        Ok(())
    }

    /// Sends all of `filters` to both services at once. A service that does not answer is a gap in the story.
    ///
    /// # Errors
    /// Neither service answers, and nothing was found before.
    async fn ask(
        &self,
        filters: Vec<Filter>,
        until: Instant,
        found: &mut Found,
    ) -> anyhow::Result<Vec<(Filter, Vec<(Side, Recorded)>)>> {
        let both = [Side::Order, Side::Inventory].map(|side| {
            let is_asked = !found.unread.contains_key(&side);
            let filters = if is_asked { filters.as_slice() } else { &[] };
            let pages = filters.iter().map(move |filter| async move {
                let value = utf8_percent_encode(&filter.value, NON_ALPHANUMERIC);
                let path = format!("/admin/v1/journal?{}={value}&limit={LIMIT}", filter.name);
                match timeout_at(until, self.client(side).get_json::<Page>(&path)).await {
                    Ok(page) => page,
                    Err(_elapsed) => Err(anyhow!("no reply in time")),
                }
            });
            async move { (side, join_all(pages).await) }
        });
        let mut each: Vec<_> = filters.iter().cloned().map(|filter| (filter, Vec::new())).collect();
        for (side, pages) in join_all(both).await {
            for ((_, entries), page) in each.iter_mut().zip(pages) {
                match page {
                    Ok(page) => entries.extend(found.readable(side, &page)),
                    Err(error) => {
                        found.unread.entry(side).or_insert_with(|| error.root_cause().to_string());
                    }
                }
            }
        }
        let is_nothing = found.entries.is_empty() && each.iter().all(|(_, entries)| entries.is_empty());
        if found.unread.len() == 2 && is_nothing {
            let reasons: Vec<_> =
                found.unread.iter().map(|(side, why)| format!("\n  {side}: {why}")).collect();
            bail!("neither service answers; see `mainstay status`{}", reasons.concat());
        }
        Ok(each)
    }
}

impl Found {
    pub(crate) fn gap(&mut self, gap: String) {
        if !self.gaps.contains(&gap) {
            self.gaps.push(gap);
        }
    }

    /// Returns the page's entries. An entry that this release cannot read is kept apart unchanged; the others are
    /// returned.
    fn readable(&mut self, side: Side, page: &Page) -> Vec<(Side, Recorded)> {
        let mut readable = Vec::with_capacity(page.items.len());
        for item in &page.items {
            match Recorded::from_item(item) {
                Ok(recorded) => readable.push((side, recorded)),
                Err(error) => {
                    let unreadable = Unreadable {
                        service: side,
                        seq: item.seq,
                        why: error.to_string(),
                        entry: item.entry.clone(),
                    };
                    if !self.unreadable.iter().any(|known| (known.service, known.seq) == (side, item.seq)) {
                        self.unreadable.push(unreadable);
                    }
                }
            }
        }
        if page.more {
            let given = page.items.len();
            self.gap(format!("the {side} service has more entries than the {given} that are shown"));
        }
        readable
    }
}

fn known_as(filter: &Filter, recorded: &Recorded) -> &'static str {
    match (filter.name, &*recorded.entry.aggregate_kind) {
        ("aggregate_id", "order") => "an order",
        ("aggregate_id", "reservation") => "a reservation",
        ("aggregate_id", _) => "an item",
        ("correlation_id", _) => "a correlation id",
        ("trace_id", _) => "a trace id",
        _ => "an idempotency key",
    }
}

/// The order of an entry, as far as the entry names it.
fn order_of(recorded: &Recorded) -> Option<Uuid> {
    let entry = &recorded.entry;
    match &*entry.aggregate_kind {
        "order" => Some(entry.aggregate_id),
        "reservation" => entry.inputs.get("order_id")?.as_str()?.parse().ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(id: &str) -> Vec<&'static str> {
        Filter::all_of(id).into_iter().map(|filter| filter.name).collect()
    }

    #[test]
    fn an_id_is_searched_in_every_way_that_its_form_allows() {
        // The last filter of each is the item of that SKU.
        let uuid = "01a1fe12-6a76-71e9-b426-5b8604d9389c";
        assert_eq!(names(uuid), ["aggregate_id", "correlation_id", "key_hash", "aggregate_id"]);
        let trace = "3a2cb84407d34fabac88b6c2622291cf";
        assert_eq!(names(trace), ["aggregate_id", "correlation_id", "trace_id", "key_hash", "aggregate_id"]);
        assert_eq!(names("85123A"), ["correlation_id", "aggregate_id"]);
        assert_eq!(names("a key with spaces in it"), ["key_hash", "aggregate_id"]);
        assert_eq!(names(""), [""; 0]);
    }

    #[test]
    fn a_trace_id_is_searched_in_lower_case() {
        let filters = Filter::all_of("3A2CB84407D34FABAC88B6C2622291CF");
        let trace = filters.iter().find(|filter| filter.name == "trace_id");
        assert_eq!(trace.map(|filter| &*filter.value), Some("3a2cb84407d34fabac88b6c2622291cf"));
    }
}
