//! One refusal, told once to everyone: the decision trail, the metrics, and an event for those who watch live.

use std::borrow::Cow;

use super::names;
use crate::decision::{Concerns, Decided, Loudness};

/// Records that `layer` refused the request for `reason`; `why` has the threshold and the observed value.
pub(super) fn shed(whose: &impl Concerns, layer: &'static str, reason: &'static str, why: Cow<'static, str>) {
    metrics::counter!(names::SHED, "reason" => reason).increment(1);
    note(whose, layer, "reject", why);
}

/// Records a decision of `layer` about the request in hand.
pub(super) fn note(whose: &impl Concerns, layer: &'static str, action: &'static str, why: Cow<'static, str>) {
    // The canonical line tells what became of the request; this is for those who look closer.
    let loudness = Loudness::Debug;
    Decided { layer, action, why, peer: None, endpoint: None, loudness }.record(Some(whose));
}
