//! Invariant 12: the journal can be trusted. Its bytes are the ones that were hashed, each entry names the one
//! before it, and each decision, made again from what it read, comes out the same.

use journal::Entry;
use journal::entry::{hash, hex};

use crate::entry::Recorded;
use crate::fold::{Fold, at};
use crate::report::{Rule, Tally};
use crate::{Contract, Side};

pub(crate) fn entry(
    contract: &Contract<'_>,
    fold: &Fold,
    side: Side,
    recorded: &Recorded,
    tally: &mut Tally,
) {
    let entry = &recorded.entry;
    let hash = hex(&hash(&recorded.body));
    tally.check(Rule::ChainVerifies, hash == recorded.hash, || {
        at(side, recorded, format!("the body hashes to {hash}, the journal says {}", recorded.hash))
    });
    tally.check(Rule::ChainVerifies, canonical(entry) == recorded.body, || {
        at(side, recorded, "the body is not the canonical form of the entry")
    });
    let before = fold.head(side, entry.aggregate_id).map(|head| head.hash.as_str());
    tally.check(Rule::ChainVerifies, entry.prev_hash.as_deref() == before, || {
        at(side, recorded, format!("prev_hash is {:?}, the entry before has {before:?}", entry.prev_hash))
    });
    tally.check(Rule::ChainVerifies, entry.service == side.as_str(), || {
        at(side, recorded, format!("an entry of {:?} in this journal", entry.service))
    });
    let again = (contract.decide)(&entry.rule, &entry.inputs);
    tally.check(Rule::DecisionReexecutes, again.as_deref() == Ok(&*entry.to), || {
        at(side, recorded, format!("{} reached {}, made again: {again:?}", entry.rule, entry.to))
    });
    for refused in &entry.alternatives {
        let reasoned = refused.to != entry.to && !refused.refused_because.is_empty();
        tally.check(Rule::DecisionReexecutes, reasoned, || {
            at(side, recorded, format!("{} is also a refused alternative: {refused:?}", entry.to))
        });
    }
}

/// By a library's word, not by the code that wrote the entry.
fn canonical(entry: &Entry) -> Vec<u8> {
    serde_json_canonicalizer::to_vec(entry).expect("an entry holds only strings, integers, lists and maps")
}
