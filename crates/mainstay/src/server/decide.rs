//! Records a server-side decision on the trail, in the metrics, and as an event.

use std::borrow::Cow;

use super::names;
use crate::decision::{Decided, HasRequestIdentity, Level};

/// Records that `layer` refused the request for `reason`. `why` holds the threshold and the observed value.
pub(super) fn shed(
    request: &impl HasRequestIdentity,
    layer: &'static str,
    reason: &'static str,
    why: Cow<'static, str>,
) {
    crate::metric::counter!(names::SHED, "reason" => reason).increment(1);
    note(request, layer, "reject", why);
}

/// Records a decision of `layer` about the current request.
pub(super) fn note(
    request: &impl HasRequestIdentity,
    layer: &'static str,
    action: &'static str,
    why: Cow<'static, str>,
) {
    // Debug, because the canonical line already reports the request's outcome.
    let level = Level::Debug;
    Decided { layer, action, why, peer: None, endpoint: None, level }.record(Some(request));
}
