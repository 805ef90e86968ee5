//! What the middleware saw, in the form that goes into a journal entry.

use mainstay::trail::{Decision, DecisionTrail};
use serde::Serialize;
use serde_json::value::RawValue;

#[derive(Serialize)]
struct Evidence {
    decisions: Vec<Decision>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tries: Option<i32>,
}

/// The decisions so far, and which try this was of something that is tried until it is known.
pub fn evidence(trail: &DecisionTrail, tries: Option<i32>) -> Box<RawValue> {
    journal::canonical(&Evidence { decisions: trail.snapshot(), tries })
}
