//! An entry compared with this release: its aggregate's kind, its states and its rule.

use journal::Entry;
use journal::rule::ReplayError;

use crate::{Contract, Unknown};

/// The parts of an entry that this release has and does not have.
#[derive(Debug)]
pub(crate) struct Known {
    /// The first part that this release does not have, with its value.
    pub(crate) unknown: Option<(Unknown, String)>,
    /// The state that the decision reaches when it is executed again.
    pub(crate) again: Result<String, ReplayError>,
}

impl Known {
    pub(crate) fn of(contract: &Contract<'_>, entry: &Entry<'_>) -> Self {
        let again = (contract.decide)(&entry.rule, &entry.inputs);
        let kind = &*entry.aggregate_kind;
        let state = [&*entry.from, &*entry.to].into_iter().find(|state| !contract.knows(kind, state));
        let unknown = if !contract.knows_kind(kind) {
            Some((Unknown::Kind, format!("an aggregate of kind {kind:?}")))
        } else if let Some(state) = state {
            Some((Unknown::Status, format!("the {kind} status {state:?}")))
        } else if let Err(ReplayError::UnknownRule(rule)) = &again {
            Some((Unknown::Rule, format!("the rule {rule:?}")))
        } else {
            None
        };
        Self { unknown, again }
    }

    /// Returns whether this release has the aggregate's kind and both states.
    pub(crate) fn has_known_states(&self) -> bool {
        match &self.unknown {
            Some((Unknown::Kind | Unknown::Status, _)) => false,
            Some((Unknown::Rule | Unknown::Entry | Unknown::Row, _)) | None => true,
        }
    }

    /// Returns whether this release has the rule.
    pub(crate) fn has_known_rule(&self) -> bool {
        !matches!(self.again, Err(ReplayError::UnknownRule(_)))
    }
}
