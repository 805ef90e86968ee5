//! The stories of the affected orders: the best one to tell, and the time that inventory's return took to resolve the
//! rest.

use std::collections::HashMap;
use std::time::Duration;

use checker::{Recorded, Side};
use order_service::domain::Status;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::explain::{Timeline, WaitKind};

/// An order's entries at both services.
type Story = Vec<(Side, Recorded)>;

/// The entries of each order.
pub(super) fn by_order(entries: &[(Side, Recorded)]) -> HashMap<Uuid, Story> {
    let mut order_of: HashMap<Uuid, Uuid> = HashMap::new();
    let mut stories: HashMap<Uuid, Story> = HashMap::new();
    for (side, recorded) in entries {
        let entry = &recorded.entry;
        let named = entry.inputs.get("order_id").and_then(|id| id.as_str()?.parse().ok());
        let order = match &*entry.aggregate_kind {
            "order" => Some(entry.aggregate_id),
            "reservation" => named.or_else(|| order_of.get(&entry.aggregate_id).copied()),
            _ => None,
        };
        if let Some(order) = order {
            order_of.insert(entry.aggregate_id, order);
            stories.entry(order).or_default().push((*side, recorded.clone()));
        }
    }
    stories
}

/// The orders that were open when inventory came back.
#[derive(Debug, Clone, Default)]
pub(super) struct Recovery {
    /// Orders that were in an unknown state at some time.
    pub(super) unknown: usize,
    /// Orders that were open when inventory came back.
    pub(super) open: usize,
    /// The time until half of the open orders were decided; `all` is the time until all were.
    pub(super) half: Duration,
    pub(super) all: Duration,
}

pub(super) fn recovery(stories: &HashMap<Uuid, Story>, healed: OffsetDateTime) -> Recovery {
    let mut unknown = 0;
    let mut took: Vec<Duration> = Vec::new();
    for story in stories.values() {
        let mut order: Vec<_> = story
            .iter()
            .filter(|(side, _)| *side == Side::Order)
            .map(|(_, recorded)| &recorded.entry)
            .collect();
        order.sort_by_key(|entry| entry.version);
        unknown += usize::from(order.iter().any(|entry| entry.to.ends_with("_unknown")));
        let is_open = |state: &str| Status::parse(state).is_some_and(Status::is_unresolved);
        let at_return = order.iter().rposition(|entry| entry.at <= healed);
        let Some(at_return) = at_return.filter(|at| is_open(&order[*at].to)) else { continue };
        if let Some(decided) = order[at_return..].iter().find(|entry| !is_open(&entry.to)) {
            took.push((decided.at - healed).unsigned_abs());
        }
    }
    took.sort_unstable();
    let (half, all) = (took.get(took.len() / 2), took.last());
    let or_zero = |span: Option<&Duration>| span.copied().unwrap_or_default();
    Recovery { unknown, open: took.len(), half: or_zero(half), all: or_zero(all) }
}

/// The order with the most instructive story: one whose reply was lost after the effect, or else the one that was
/// unknown longest, or else the one that waited longest.
pub(super) fn best(
    stories: &HashMap<Uuid, Story>,
    trouble: OffsetDateTime,
    now: OffsetDateTime,
) -> Option<Timeline> {
    let affected = stories.values().filter(|story| {
        let unknown = |(_, recorded): &(Side, Recorded)| recorded.entry.to.ends_with("_unknown");
        let late = |(_, recorded): &(Side, Recorded)| recorded.entry.at >= trouble;
        story.iter().any(unknown) || story.iter().any(late)
    });
    let timelines =
        affected.map(|story| Timeline::of(story.clone(), now)).filter(|timeline| !timeline.waits.is_empty());
    timelines.max_by_key(|timeline| {
        let longest = timeline.waits.iter().map(|wait| {
            let lost = wait.fact.is_some_and(|fact| fact < wait.from);
            (wait.kind == WaitKind::Unknown, lost, wait.lasted_ms)
        });
        (longest.max(), timeline.rows.first().map(|row| row.seq))
    })
}
