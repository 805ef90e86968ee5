//! Invariant 5: every aggregate takes only legal transitions, version by version, and none from a terminal state.

use crate::entry::Recorded;
use crate::fold::{Fold, at};
use crate::known::Known;
use crate::report::{Rule, Tally};
use crate::{Contract, Side};
use journal::rule::NONE;

pub(crate) fn entry(
    contract: &Contract<'_>,
    known: &Known,
    fold: &Fold,
    side: Side,
    recorded: &Recorded,
    tally: &mut Tally,
) {
    let entry = &recorded.entry;
    let kind = &*entry.aggregate_kind;
    // A later release may have further transitions, rules and terminal states.
    let is_of_another = known.unknown.is_some();
    tally.judge(Rule::LegalTransition, contract.is_legal(entry), is_of_another, || {
        at(side, recorded, format!("{kind}: {} -> {} is not in the table", entry.from, entry.to))
    });
    let (version, state) = match fold.head(side, entry.aggregate_id) {
        Some(head) => (head.version, head.state.as_deref()),
        None => (0, Some(NONE)),
    };
    let follows = version.checked_add(1) == Some(entry.version);
    let is_after_unread = follows && state.is_none();
    tally.judge(Rule::ContiguousVersions, follows && Some(&*entry.from) == state, is_after_unread, || {
        let found = format!("{} from {}", entry.version, entry.from);
        at(side, recorded, format!("version {found} follows version {version} in {state:?}"))
    });
    if version > 0 {
        let holds = state.is_some_and(|state| !contract.is_terminal(kind, state));
        tally.judge(Rule::TerminalIsFinal, holds, is_of_another || state.is_none(), || {
            at(side, recorded, format!("{} follows the terminal state {state:?}", entry.to))
        });
    }
}
