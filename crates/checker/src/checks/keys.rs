//! Invariant 6, for the keys: the entry that settled a key and its stored reply fit each other and the journal.
//!
//! The journal does not keep the reply's bytes. So a change of a member that the journal cannot tell, such as a detail's
//! words, is not seen here.

use crate::fold::Fold;
use crate::report::{Rule, Tally, Violation};
use crate::{ClientReply, KeyRow, Observed};

pub(crate) fn finish(fold: &Fold, observed: &Observed, tally: &mut Tally) {
    for row in observed.tables.iter().flat_map(|tables| &tables.keys) {
        if let Some(told) = &row.told {
            let fault = misfit(row, told);
            tally.check(Rule::TablesEqualFold, fault.is_none(), || wrong(row, fault.unwrap_or_default()));
        }
        let Some(id) = row.entry_id else { continue };
        let entry = fold.entries.get(&id);
        let is_of =
            entry.is_some_and(|e| e.side == row.service && row.aggregate_id.is_none_or(|a| a == e.aggregate));
        tally.judge(Rule::TablesEqualFold, is_of, fold.doubts.cause(id), || {
            wrong(
                row,
                format!("was settled by the entry {id}, which the journal does not have for its aggregate"),
            )
        });
        if let (Some(entry), Some(told)) = (entry, &row.told) {
            let is_state = told.state.as_deref().is_none_or(|state| *state == *entry.to);
            let is_version = told.version.is_none_or(|version| version == entry.version);
            tally.check(Rule::TablesEqualFold, is_state && is_version, || {
                let says = format!("tells of {:?} v{:?}", told.state, told.version);
                wrong(row, format!("{says}, and was settled in {:?} v{}", entry.to, entry.version))
            });
        }
    }
}

/// Why a stored reply cannot be the key's.
fn misfit(row: &KeyRow, told: &ClientReply) -> Option<&'static str> {
    if told.problem.is_none() && !told.is_final() {
        return Some("has a stored reply that is not final");
    }
    match (row.aggregate_id, told.aggregate) {
        (Some(of), Some(about)) if of != about => Some("has a stored reply about another aggregate"),
        (_, None) if told.problem.is_none() => Some("has a stored reply that names no aggregate"),
        _ => None,
    }
}

fn wrong(row: &KeyRow, what: impl AsRef<str>) -> Violation {
    let what = format!("key {} of {} {}", row.key_hash, row.principal, what.as_ref());
    Violation { service: Some(row.service), aggregate: row.aggregate_id, ..Violation::new(what) }
}
