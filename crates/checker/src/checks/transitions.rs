//! Invariant 5: every aggregate walks its state machine one legal step at a time and stops where it ends.

use crate::entry::Recorded;
use crate::fold::{Fold, at};
use crate::report::{Rule, Tally};
use crate::{Contract, Side};
use journal::rule::NONE;

pub(crate) fn entry(
    contract: &Contract<'_>,
    fold: &Fold,
    side: Side,
    recorded: &Recorded,
    tally: &mut Tally,
) {
    let entry = &recorded.entry;
    let kind = &*entry.aggregate_kind;
    tally.check(Rule::LegalTransition, contract.is_legal(entry), || {
        at(side, recorded, format!("{kind}: {} -> {} is not in the table", entry.from, entry.to))
    });
    let (version, state) = match fold.head(side, entry.aggregate_id) {
        Some(head) => (head.version, &*head.state),
        None => (0, NONE),
    };
    tally.check(Rule::ContiguousVersions, entry.version == version + 1 && entry.from == state, || {
        let found = format!("{} from {}", entry.version, entry.from);
        at(side, recorded, format!("version {found} follows version {version} in {state}"))
    });
    if version > 0 {
        tally.check(Rule::TerminalIsFinal, !contract.is_terminal(kind, state), || {
            at(side, recorded, format!("{} follows the terminal state {state}", entry.to))
        });
    }
}
