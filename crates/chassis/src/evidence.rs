//! Evidence of a transition: the decisions of the middleware, in the form of a journal entry.

use mainstay::DecisionTrail;
use serde::Serialize;

/// The decisions so far and, for a call that is repeated until its outcome is known, the number of the try.
#[derive(Debug, Serialize)]
pub struct Evidence<'a> {
    decisions: &'a DecisionTrail,
    #[serde(skip_serializing_if = "Option::is_none")]
    tries: Option<i32>,
}

/// The evidence for an entry.
pub fn evidence(decisions: &DecisionTrail, tries: Option<i32>) -> Evidence<'_> {
    Evidence { decisions, tries }
}
