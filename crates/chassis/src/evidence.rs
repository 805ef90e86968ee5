//! What the middleware saw, in the form that goes into a journal entry.

use mainstay::DecisionTrail;
use serde::Serialize;

/// The decisions so far, and which try this was of something that is tried until it is known.
#[derive(Debug, Serialize)]
pub struct Evidence<'a> {
    decisions: &'a DecisionTrail,
    #[serde(skip_serializing_if = "Option::is_none")]
    tries: Option<i32>,
}

/// The evidence of an entry that is about to be sealed.
pub fn evidence(decisions: &DecisionTrail, tries: Option<i32>) -> Evidence<'_> {
    Evidence { decisions, tries }
}
