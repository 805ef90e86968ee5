//! Invariant 8: a key has one final reply, and every request with the key gets the same bytes.

use std::collections::HashMap;

use crate::report::{Rule, Tally, Violation};
use crate::{ClientReply, Observed, Side, StoredReply};

pub(crate) fn finish(observed: &Observed, tally: &mut Tally) {
    let mut finals: HashMap<(Side, &str, &str), (StoredReply, String)> = HashMap::new();
    for row in observed.tables.iter().flat_map(|tables| &tables.keys) {
        match &row.reply {
            Some(reply) => {
                let key = (row.service, row.principal.as_str(), row.key_hash.as_str());
                finals.insert(key, (reply.clone(), "its key row".to_owned()));
                tally.check(Rule::KeysSettle, true, || Violation::new(""));
            }
            None if observed.at_rest => tally.check(Rule::KeysSettle, false, || {
                let what = format!("key {} of {} has no final reply", row.key_hash, row.principal);
                Violation { service: Some(row.service), aggregate: row.aggregate_id, ..Violation::new(what) }
            }),
            None => tally.defer(Rule::KeysSettle),
        }
    }
    for request in &observed.requests {
        let (Some(key), Some(reply)) = (&request.key_hash, &request.reply) else { continue };
        if !reply.is_final() {
            continue;
        }
        let here = stored(reply);
        let place = format!("correlation id {}", request.correlation_id);
        let key = (request.service, request.principal.as_str(), key.as_str());
        if let Some((first, whence)) = finals.get(&key) {
            tally.check(Rule::RepliesEqual, *first == here, || {
                let what = format!(
                    "key {} of {}: {} with body {} ({place}), but {} with body {} ({whence})",
                    key.2, key.1, here.status, here.body_hash, first.status, first.body_hash
                );
                Violation {
                    service: Some(request.service),
                    aggregate: reply.aggregate,
                    ..Violation::new(what)
                }
            });
        } else {
            finals.insert(key, (here, place));
        }
    }
}

fn stored(reply: &ClientReply) -> StoredReply {
    StoredReply { status: reply.status, body_hash: reply.body_hash.clone() }
}
