//! Finding everything that belongs to an id, through both services' journal feeds: what the id may be is asked
//! for in every way at once, and from what is found the way leads to whole orders with their reservations.

use std::collections::BTreeSet;

use anyhow::{Context, bail};
use checker::{Recorded, Side};
use futures_util::future::join_all;
use journal::entry::hex;
use journal::feed::Page;
use journal::{ITEM_NAMESPACE, KeyHash};
use mainstay::CorrelationId;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use uuid::Uuid;

use crate::client::Client;

/// Entries asked for at once; an order has about ten.
const LIMIT: usize = 1_000;
/// One id can lead to many orders, a trace of a batch for example; more than this is not a story any more.
const MOST_ORDERS: usize = 20;

/// Both journals' feeds.
#[derive(Debug, Clone)]
pub(crate) struct Feeds {
    pub(crate) order: Client,
    pub(crate) inventory: Client,
}

/// What was found.
#[derive(Debug, Default)]
pub(crate) struct Found {
    pub(crate) entries: Vec<(Side, Recorded)>,
    /// What the id turned out to be.
    pub(crate) known_as: BTreeSet<&'static str>,
    /// Services whose journals could not be read.
    pub(crate) unread: BTreeSet<Side>,
    /// What the reader must know is missing.
    pub(crate) gaps: Vec<String>,
}

/// One question to a feed.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Filter {
    name: &'static str,
    value: String,
}

impl Filter {
    fn aggregate(id: Uuid) -> Self {
        Self { name: "aggregate_id", value: id.to_string() }
    }

    /// Everything that `id` may be, by its form.
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
    /// Everything about `id`; no entries when neither service knows it.
    pub(crate) async fn everything_about(&self, id: &str) -> anyhow::Result<Found> {
        let mut found = Found::default();
        for filter in Filter::all_of(id) {
            let before = found.entries.len();
            self.ask(&filter, &mut found).await?;
            found
                .known_as
                .extend(found.entries[before..].iter().map(|(_, recorded)| known_as(&filter, recorded)));
        }
        self.complete(&mut found).await?;
        Ok(found)
    }

    /// Adds the whole order and reservation of everything that was found.
    async fn complete(&self, found: &mut Found) -> anyhow::Result<()> {
        // A reservation that was voided unseen does not name its order; the request that it came with does.
        let orphans: BTreeSet<String> = found
            .entries
            .iter()
            .filter(|(side, recorded)| *side == Side::Inventory && order_of(recorded).is_none())
            .filter(|(_, recorded)| recorded.entry.aggregate_kind == "reservation")
            .map(|(_, recorded)| recorded.entry.correlation_id.to_string())
            .collect();
        for correlation_id in orphans {
            self.ask(&Filter { name: "correlation_id", value: correlation_id }, found).await?;
        }
        let mut orders: BTreeSet<Uuid> = found.entries.iter().filter_map(|(_, r)| order_of(r)).collect();
        if orders.len() > MOST_ORDERS {
            found.gaps.push(format!("it leads to {} orders; {MOST_ORDERS} of them are told", orders.len()));
            orders = orders.into_iter().take(MOST_ORDERS).collect();
            found
                .entries
                .retain(|(_, recorded)| order_of(recorded).is_none_or(|order| orders.contains(&order)));
        }
        let mut reservations = BTreeSet::new();
        for order in orders {
            let before = found.entries.len();
            self.ask(&Filter::aggregate(order), found).await?;
            let named = found.entries[before..].iter().filter_map(|(_, recorded)| {
                recorded.entry.inputs.get("reservation_id")?.as_str()?.parse::<Uuid>().ok()
            });
            reservations.extend(named);
        }
        for reservation in reservations {
            self.ask(&Filter::aggregate(reservation), found).await?;
        }
        Ok(())
    }

    /// Asks both services. One that does not answer is a gap in the story, both are an error.
    async fn ask(&self, filter: &Filter, found: &mut Found) -> anyhow::Result<()> {
        let value = utf8_percent_encode(&filter.value, NON_ALPHANUMERIC);
        let path = format!("/admin/v1/journal?{}={value}&limit={LIMIT}", filter.name);
        let both = [(Side::Order, &self.order), (Side::Inventory, &self.inventory)];
        let pages = join_all(both.map(|(_, client)| client.get_json::<Page>(&path))).await;
        let mut unreachable = Vec::new();
        for ((side, _), page) in both.into_iter().zip(pages) {
            match page {
                Ok(page) => {
                    let entries = page.items.iter().map(Recorded::from_item).collect::<Result<Vec<_>, _>>();
                    let entries = entries.with_context(|| format!("the {side} journal cannot be read"))?;
                    found.entries.extend(entries.into_iter().map(|recorded| (side, recorded)));
                    if page.more {
                        let given = page.items.len();
                        found.gap(format!(
                            "the {side} service has more than the {given} entries of it that are told"
                        ));
                    }
                }
                Err(error) => unreachable.push((side, error)),
            }
        }
        match unreachable.len() {
            2 => {
                let reasons: Vec<_> = unreachable.iter().map(|(_, error)| format!("{error:#}")).collect();
                bail!("neither service answers; see `mainstay status`\n  {}", reasons.join("\n  "));
            }
            _ => {
                for (side, error) in unreachable {
                    found.unread.insert(side);
                    found.gap(format!("the {side} service's part is missing: {error:#}"));
                }
            }
        }
        Ok(())
    }
}

impl Found {
    fn gap(&mut self, gap: String) {
        if !self.gaps.contains(&gap) {
            self.gaps.push(gap);
        }
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

/// The order that an entry is about, as far as the entry says so.
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
    fn an_id_is_looked_for_in_every_way_that_its_form_allows() {
        // The last one of each is the item of that SKU.
        let uuid = "01a1fe12-6a76-71e9-b426-5b8604d9389c";
        assert_eq!(names(uuid), ["aggregate_id", "correlation_id", "key_hash", "aggregate_id"]);
        let trace = "3a2cb84407d34fabac88b6c2622291cf";
        assert_eq!(names(trace), ["aggregate_id", "correlation_id", "trace_id", "key_hash", "aggregate_id"]);
        assert_eq!(names("85123A"), ["correlation_id", "aggregate_id"]);
        assert_eq!(names("a key with spaces in it"), ["key_hash", "aggregate_id"]);
        assert_eq!(names(""), [""; 0]);
    }

    #[test]
    fn a_trace_id_is_asked_for_in_lower_case() {
        let filters = Filter::all_of("3A2CB84407D34FABAC88B6C2622291CF");
        let trace = filters.iter().find(|filter| filter.name == "trace_id");
        assert_eq!(trace.map(|filter| &*filter.value), Some("3a2cb84407d34fabac88b6c2622291cf"));
    }
}
