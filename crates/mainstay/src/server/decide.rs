//! Records a server-side decision on the trail, in the metrics, and as an event.

use std::borrow::Cow;

use super::names;
use crate::decision::{Concerns, Decided, Loudness};

/// Records that `layer` refused the request for `reason`. `why` holds the threshold and the observed value.
pub(super) fn shed(whose: &impl Concerns, layer: &'static str, reason: &'static str, why: Cow<'static, str>) {
    metrics::counter!(names::SHED, "reason" => reason).increment(1);
    note(whose, layer, "reject", why);
}

/// Records a decision of `layer` about the current request.
pub(super) fn note(whose: &impl Concerns, layer: &'static str, action: &'static str, why: Cow<'static, str>) {
    // Debug, because the canonical line already reports the request's outcome.
    let loudness = Loudness::Debug;
    Decided { layer, action, why, peer: None, endpoint: None, loudness }.record(Some(whose));
}
