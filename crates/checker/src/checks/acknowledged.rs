//! Invariant 3: an effect that a client was told of is there and stays; a request answered `not-executed` left no
//! effect.

use std::collections::{HashMap, HashSet};

use uuid::Uuid;

use crate::entry::Recorded;
use crate::fold::Fold;
use crate::report::{Rule, Tally, Violation};
use crate::{ClientReply, ClientRequest, KeyRow, Observed, Side, UnreadRow};

/// A key's identity: service, principal, key hash.
type Key<'a> = (Side, &'a str, &'a str);

/// The journals' entries, indexed the way that client logs name them.
#[derive(Debug, Default)]
pub(crate) struct Journalled {
    /// (service, aggregate, version) -> the state that the entry reached.
    states: HashMap<(Side, Uuid, i64), String>,
    /// (service, principal, key hash) of every entry that a request made.
    keys: HashSet<(Side, String, String)>,
}

impl Journalled {
    pub(crate) fn entry(&mut self, side: Side, recorded: &Recorded) {
        let entry = &recorded.entry;
        self.states.insert((side, entry.aggregate_id, entry.version), entry.to.to_string());
        if let Some(key) = &entry.key_hash {
            self.keys.insert((side, entry.principal.to_string(), key.to_string()));
        }
    }

    pub(crate) fn finish(self, fold: &Fold, observed: &Observed, tally: &mut Tally) {
        let rows = rows(observed);
        let keys: HashMap<Key<'_>, &KeyRow> = observed
            .tables
            .iter()
            .flat_map(|tables| &tables.keys)
            .map(|row| ((row.service, row.principal.as_str(), row.key_hash.as_str()), row))
            .collect();
        // A request may be answered `not-executed` and its repeat succeed. Only a key whose every request was
        // answered `not-executed` must have left nothing.
        let mut refused: HashMap<Key<'_>, (bool, &ClientRequest)> = HashMap::new();
        for request in &observed.requests {
            if let Some(key) = &request.key_hash {
                let nothing = request.reply.as_ref().is_some_and(ClientReply::is_not_executed);
                let all =
                    refused.entry((request.service, &request.principal, key)).or_insert((true, request));
                all.0 &= nothing;
            }
            let Some(reply) = &request.reply else { continue };
            if (200..300).contains(&reply.status) || (reply.is_final() && reply.state.is_some()) {
                self.survives(fold, observed, rows.as_ref(), request, reply, tally);
                if let (Some(key), true, true) = (&request.key_hash, reply.is_final(), rows.is_some()) {
                    let row = keys.get(&(request.service, request.principal.as_str(), key.as_str()));
                    let stored = row.and_then(|row| row.reply.as_ref());
                    let is_unread =
                        |row: &UnreadRow| row.service == request.service && row.table == "idempotency";
                    let depends = observed.unread.iter().any(is_unread);
                    tally.judge(Rule::AcknowledgedSurvives, stored.is_some(), depends, || {
                        lost(request, reply, &format!("the key row holds no reply: {row:?}"))
                    });
                }
            }
        }
        for ((service, principal, key), (nothing, request)) in refused {
            if !nothing {
                continue;
            }
            let claimed = keys.contains_key(&(service, principal, key));
            let journalled = self.keys.contains(&(service, principal.to_owned(), key.to_owned()));
            tally.check(Rule::NotExecutedLeftNothing, !claimed && !journalled, || {
                let mut violation = Violation::new(format!(
                    "{principal} was told not-executed for key {key} (correlation id {}), yet: key row {claimed}, \
                     journal entry {journalled}",
                    request.correlation_id
                ));
                violation.service = Some(service);
                violation
            });
        }
    }

    /// Checks that the journal has the state which a reply showed, and that the table is not older than the reply.
    fn survives(
        &self,
        fold: &Fold,
        observed: &Observed,
        rows: Option<&HashMap<(Side, Uuid), i64>>,
        request: &ClientRequest,
        reply: &ClientReply,
        tally: &mut Tally,
    ) {
        let Some(aggregate) = reply.aggregate else { return };
        let head = fold.head(request.service, aggregate);
        let depends = fold.doubts.aggregate(request.service, aggregate);
        tally.judge(Rule::AcknowledgedSurvives, head.is_some(), depends, || {
            lost(request, reply, "it is not in the journal")
        });
        if let (Some(state), Some(version)) = (&reply.state, reply.version) {
            let journalled = self.states.get(&(request.service, aggregate, version));
            let depends = depends && journalled.is_none();
            tally.judge(Rule::AcknowledgedSurvives, journalled == Some(state), depends, || {
                lost(request, reply, &format!("the journal has {journalled:?} at that version"))
            });
        }
        if let Some(rows) = rows {
            let row = rows.get(&(request.service, aggregate));
            let kept = row.is_some_and(|version| reply.version.is_none_or(|told| told <= *version));
            let is_unread = |row: &UnreadRow| {
                row.service == request.service && row.aggregate.is_none_or(|id| id == aggregate)
            };
            let depends = row.is_none() && observed.unread.iter().any(is_unread);
            tally.judge(Rule::AcknowledgedSurvives, kept, depends, || {
                lost(request, reply, &format!("the table has version {row:?} of it"))
            });
        }
    }
}

/// Collects the version of every row that a reply can name.
fn rows(observed: &Observed) -> Option<HashMap<(Side, Uuid), i64>> {
    let tables = observed.tables.as_ref()?;
    let orders = tables.orders.iter().map(|row| ((Side::Order, row.id), row.version));
    let reservations = tables.reservations.iter().map(|row| ((Side::Inventory, row.id), row.version));
    let item = |sku: &str| Uuid::new_v5(&journal::ITEM_NAMESPACE, sku.as_bytes());
    let items = tables.items.iter().map(|row| ((Side::Inventory, item(&row.sku)), row.version));
    Some(orders.chain(reservations).chain(items).collect())
}

fn lost(request: &ClientRequest, reply: &ClientReply, what: &str) -> Violation {
    let told = format!("{} {:?} v{:?}", reply.status, reply.state, reply.version);
    let mut violation = Violation::new(format!(
        "{} was told {told} (correlation id {}): {what}",
        request.principal, request.correlation_id
    ));
    violation.service = Some(request.service);
    violation.aggregate = reply.aggregate;
    violation
}
