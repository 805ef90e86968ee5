//! Invariant 9: no work starts after its deadline, and every hop passes on less time than it was given.

use std::collections::HashMap;

use crate::report::{Rule, Tally, Violation};
use crate::{Observed, Start, Work};

pub(crate) fn finish(observed: &Observed, tally: &mut Tally) {
    let by_id: HashMap<&str, &Start> =
        observed.starts.iter().map(|start| (start.id.as_str(), start)).collect();
    for start in &observed.starts {
        let Some(left) = start.left_ms else { continue };
        if start.records_outcome {
            continue;
        }
        tally.check(Rule::NothingStartsLate, left > 0, || {
            wrong(start, &format!("started {} ms after its deadline", left.unsigned_abs()))
        });
        let parent = start.parent.as_deref().and_then(|parent| by_id.get(parent));
        if let Some((parent, given)) = parent.and_then(|parent| Some((parent, parent.left_ms?))) {
            // A caller keeps a reserve back, so a call gets strictly less time. Other work may get the same time.
            let falls = if start.work == Work::Call { left < given } else { left <= given };
            tally.check(Rule::TimeFallsPerHop, falls, || {
                wrong(start, &format!("has {left} ms left, {} that started it {given} ms", parent.name))
            });
        }
    }
}

fn wrong(start: &Start, what: &str) -> Violation {
    let what = format!("{:?} {} (correlation id {}) {what}", start.work, start.name, start.correlation_id);
    Violation { service: Some(start.service), ..Violation::new(what) }
}
