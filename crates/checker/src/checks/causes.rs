//! Invariant 7: every entry leads back, cause by cause and across both services, to the request that began it.
//!
//! Most links are judged at the end: the journals are read one after the other, so an entry may be read before its
//! cause.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use uuid::Uuid;

use crate::entry::Recorded;
use crate::fold::{Brief, Fold, at};
use crate::report::{Rule, Tally, Violation};
use crate::{ClockOffset, Observed, Side};

#[derive(Debug, Default)]
pub(crate) struct Causes {
    /// Ids of entries with a cause, in the order in which they were read.
    caused: Vec<Uuid>,
    /// The first entry of each keyed request.
    roots: HashMap<(Side, String, String), Uuid>,
    /// Reservation entries without a cause. Only the order service causes reservation entries, so each needs a cause.
    orphans: Vec<Uuid>,
}

impl Causes {
    /// Checks one entry. Call it before the fold applies the entry.
    pub(crate) fn entry(&mut self, fold: &Fold, side: Side, recorded: &Recorded, tally: &mut Tally) {
        let entry = &recorded.entry;
        if fold.entries.contains_key(&entry.id) {
            let twice = || at(side, recorded, format!("entry {} twice", entry.id));
            tally.check(Rule::CauseResolves, false, twice);
        }
        if entry.causation_id.is_some() {
            self.caused.push(entry.id);
            return;
        }
        if let Some(key) = &entry.key_hash {
            let request = (side, entry.principal.to_string(), key.to_string());
            let first = *self.roots.entry(request).or_insert(entry.id);
            tally.check(Rule::OneRootPerRequest, first == entry.id, || {
                at(side, recorded, format!("key {key} has a root already, entry {first}"))
            });
        }
        if entry.aggregate_kind == "reservation" {
            self.orphans.push(entry.id);
        }
    }

    pub(crate) fn finish(self, fold: &Fold, observed: &Observed, tally: &mut Tally) {
        for effect in self.caused.iter().filter_map(|id| fold.entries.get(id)) {
            match effect.cause.and_then(|cause| fold.entries.get(&cause)) {
                Some(cause) => link(cause, effect, tally),
                // The order journal is read first, so inventory's journal may hold effects of order entries written
                // after that read.
                None if !observed.at_rest && effect.side == Side::Inventory => {
                    tally.defer(Rule::CauseResolves);
                }
                None if effect.cause.is_some_and(|cause| fold.doubts.cause(cause)) => {
                    tally.doubt(Rule::CauseResolves);
                }
                None => tally.check(Rule::CauseResolves, false, || {
                    at_entry(effect, format!("its cause {:?} is in neither journal", effect.cause))
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
                at_entry(orphan, format!("a second root for correlation id {}", orphan.correlation))
            });
        }
    }
}

/// Checks one link from a cause to its effect.
fn link(cause: &Brief, effect: &Brief, tally: &mut Tally) {
    // A request carries its correlation id to inventory. An answer need not bring it back: it may name an entry that
    // another request, or inventory's own sweep, wrote before.
    let asked = cause.side == Side::Order && effect.side == Side::Inventory;
    let travels = !asked || cause.correlation == effect.correlation;
    tally.check(Rule::CauseResolves, travels, || {
        let (its, causes) = (&effect.correlation, &cause.correlation);
        at_entry(effect, format!("correlation id {its} differs from its cause's {causes}"))
    });
    offset(cause, effect, tally);
    let follows = effect.hlc > cause.hlc;
    // The wall clock of the effect's host was behind the cause's time. Earlier releases did not adopt that time, so
    // the entry shows a clock offset and not a wrong order of events.
    let behind = i64::try_from(cause.hlc.millis()).unwrap_or(i64::MAX) > effect.at;
    if !follows && behind {
        tally.clocks.not_adopted += 1;
    }
    tally.check(Rule::ClockFollowsCause, follows || behind, || {
        at_entry(effect, format!("its clock {} does not follow its cause's {}", effect.hlc, cause.hlc))
    });
}

/// Records a clock offset. An effect is later than its cause in real time; where its wall time is earlier, the host
/// of the cause was ahead by at least the difference.
fn offset(cause: &Brief, effect: &Brief, tally: &mut Tally) {
    if cause.at <= effect.at {
        return;
    }
    let milliseconds = cause.at.abs_diff(effect.at);
    let offsets = &mut tally.clocks.offsets;
    match offsets.iter_mut().find(|known| (known.ahead, known.behind) == (cause.side, effect.side)) {
        Some(known) => {
            known.milliseconds = known.milliseconds.max(milliseconds);
            known.effects += 1;
        }
        None => {
            offsets.push(ClockOffset { ahead: cause.side, behind: effect.side, milliseconds, effects: 1 });
        }
    }
}

fn at_entry(brief: &Brief, what: String) -> Violation {
    let mut violation = Violation::new(what).of(brief.side, brief.aggregate);
    violation.version = Some(brief.version);
    violation.seq = Some(brief.seq);
    violation
}
