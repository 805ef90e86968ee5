//! Invariant 12: the journal can be trusted. Its bytes are the hashed bytes, each entry names the entry before it,
//! and each decision, executed again on its inputs, reaches the same state.

use journal::entry::hash;
use journal::hex;
use journal::rule::ReplayError;
use serde_json::Value;

use crate::Side;
use crate::entry::Recorded;
use crate::fold::{Fold, at};
use crate::known::Known;
use crate::report::{Rule, Tally, Violation};

pub(crate) fn entry(known: &Known, fold: &Fold, side: Side, recorded: &Recorded, tally: &mut Tally) {
    let entry = &recorded.entry;
    bytes(&recorded.body, &recorded.hash, tally, |what| at(side, recorded, what));
    let is_well_formed = entry.format > CANONICAL || is_canonical(&recorded.body);
    tally.check(Rule::ChainVerifies, is_well_formed, || {
        at(side, recorded, "the body is not the canonical form of the entry")
    });
    let before = fold.head(side, entry.aggregate_id).map(|head| head.hash.as_str());
    tally.check(Rule::ChainVerifies, entry.prev_hash.as_deref() == before, || {
        at(side, recorded, format!("prev_hash is {:?}, the entry before has {before:?}", entry.prev_hash))
    });
    tally.check(Rule::ChainVerifies, entry.service == side.as_str(), || {
        at(side, recorded, format!("an entry of {:?} in this journal", entry.service))
    });
    // A rule that this release has reaches this release's states from this release's inputs. Unreadable inputs are
    // excused only where a state is of another release.
    let is_of_another = match &known.again {
        Ok(_) => false,
        Err(ReplayError::UnknownRule(_)) => true,
        Err(ReplayError::Inputs { .. }) => !known.has_known_states(),
    };
    let same = known.again.as_deref().is_ok_and(|to| to == entry.to);
    tally.judge(Rule::DecisionReexecutes, same, is_of_another, || {
        let again = known.again.as_ref().map_err(ToString::to_string);
        at(side, recorded, format!("{} reached {}, made again: {again:?}", entry.rule, entry.to))
    });
    for refused in &entry.alternatives {
        let reasoned = refused.to != entry.to && !refused.refused_because.is_empty();
        tally.check(Rule::DecisionReexecutes, reasoned, || {
            at(side, recorded, format!("{} is also a refused alternative: {refused:?}", entry.to))
        });
    }
}

/// Checks that the bytes have the hash that the journal states.
pub(crate) fn bytes(body: &[u8], said: &str, tally: &mut Tally, place: impl FnOnce(String) -> Violation) {
    let hash = hex(&hash(body));
    tally.check(Rule::ChainVerifies, hash == said, || {
        place(format!("the body hashes to {hash}, the journal says {said}"))
    });
}

/// Format of the entries of release 0.1.0. Their bytes are canonical JSON (RFC 8785).
const CANONICAL: u32 = 1;

/// Returns whether the bytes are canonical JSON. They may have members that this release does not know; those count too.
fn is_canonical(body: &[u8]) -> bool {
    let json = serde_json::from_slice::<Value>(body);
    json.and_then(|json| serde_json_canonicalizer::to_vec(&json)).is_ok_and(|canonical| canonical == body)
}
