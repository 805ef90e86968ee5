//! Invariant 7: every entry leads back, cause by cause and across both services, to the request that began it.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use journal::HybridTime;
use uuid::Uuid;

use crate::entry::Recorded;
use crate::fold::{Brief, Fold, at};
use crate::report::{Rule, Tally, Violation};
use crate::{Observed, Side};

#[derive(Debug, Default)]
pub(crate) struct Causes {
    /// Entries whose cause had not been read when they were.
    waiting: Vec<Uuid>,
    /// Which entry a keyed request began with.
    roots: HashMap<(Side, String, String), Uuid>,
    /// Reservation entries without a cause: nobody but the order service asks for those.
    orphans: Vec<Uuid>,
}

impl Causes {
    /// Called before the fold takes the entry in.
    pub(crate) fn entry(&mut self, fold: &Fold, side: Side, recorded: &Recorded, tally: &mut Tally) {
        let entry = &recorded.entry;
        if fold.entries.contains_key(&entry.id) {
            tally.check(Rule::CauseResolves, false, || {
                at(side, recorded, format!("entry {} twice", entry.id))
            });
        }
        if let Some(cause) = entry.causation_id {
            if let Some(cause) = fold.entries.get(&cause) {
                let effect = Link { side, correlation: &entry.correlation_id, hlc: entry.hlc };
                link(cause, &effect, || at(side, recorded, String::new()), tally);
            } else {
                self.waiting.push(entry.id);
            }
        } else {
            if let Some(key) = &entry.key_hash {
                let request = (side, entry.principal.clone(), key.clone());
                let first = *self.roots.entry(request).or_insert(entry.id);
                tally.check(Rule::OneRootPerRequest, first == entry.id, || {
                    at(side, recorded, format!("key {key} has a root already, entry {first}"))
                });
            }
            if entry.aggregate_kind == "reservation" {
                self.orphans.push(entry.id);
            }
        }
    }

    pub(crate) fn finish(self, fold: &Fold, observed: &Observed, tally: &mut Tally) {
        for id in &self.waiting {
            let Some(effect) = fold.entries.get(id) else { continue };
            match effect.cause.and_then(|cause| fold.entries.get(&cause)) {
                Some(cause) => {
                    let seen = Link { side: effect.side, correlation: &effect.correlation, hlc: effect.hlc };
                    link(cause, &seen, || place(effect, String::new()), tally);
                }
                // The order journal is read first, so inventory may already know effects of causes past its end.
                None if !observed.at_rest && effect.side == Side::Inventory => {
                    tally.defer(Rule::CauseResolves);
                }
                None => tally.check(Rule::CauseResolves, false, || {
                    place(effect, format!("its cause {:?} is in neither journal", effect.cause))
                }),
            }
        }
        if self.orphans.is_empty() {
            return;
        }
        let asked: HashSet<Arc<str>> = fold
            .entries
            .values()
            .filter(|brief| brief.side == Side::Order)
            .map(|brief| brief.correlation.clone())
            .collect();
        for orphan in self.orphans.iter().filter_map(|id| fold.entries.get(id)) {
            tally.check(Rule::OneRootPerRequest, !asked.contains(&orphan.correlation), || {
                place(orphan, format!("a second root for correlation id {}", orphan.correlation))
            });
        }
    }
}

/// The end of a causal edge.
struct Link<'a> {
    side: Side,
    correlation: &'a str,
    hlc: HybridTime,
}

/// One edge from a cause to its effect.
fn link(cause: &Brief, effect: &Link<'_>, place: impl Fn() -> Violation, tally: &mut Tally) {
    let broken = |what: String| {
        let mut violation = place();
        violation.what = what;
        violation
    };
    // Within one service a sweep may act on an older request's behalf; over the wire the id always travels.
    let same = cause.side == effect.side || *cause.correlation == *effect.correlation;
    tally.check(Rule::CauseResolves, same, || {
        broken(format!(
            "correlation id {} differs from its cause's {}",
            effect.correlation, cause.correlation
        ))
    });
    tally.check(Rule::ClockFollowsCause, effect.hlc > cause.hlc, || {
        broken(format!("its clock {} does not follow its cause's {}", effect.hlc, cause.hlc))
    });
}

fn place(brief: &Brief, what: String) -> Violation {
    let mut violation = Violation::new(what).of(brief.side, brief.aggregate);
    violation.version = Some(brief.version);
    violation.seq = Some(brief.seq);
    violation
}
