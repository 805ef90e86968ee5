//! One refusal, told once to everyone: the decision trail, the metrics, and an event for those who watch live.

use std::borrow::Cow;

use super::names;
use super::record::millis;
use crate::RequestContext;
use crate::trail::Decision;

/// Records that `layer` refused the request for `reason`; `why` has the threshold and the observed value.
pub(super) fn shed(
    context: &RequestContext,
    layer: &'static str,
    reason: &'static str,
    why: Cow<'static, str>,
) {
    metrics::counter!(names::SHED, "reason" => reason).increment(1);
    note(context, layer, "reject", why);
}

/// Records a decision of `layer` on the request's trail.
pub(super) fn note(
    context: &RequestContext,
    layer: &'static str,
    action: &'static str,
    why: Cow<'static, str>,
) {
    let left = millis(context.deadline.remaining());
    tracing::debug!(
        target: "mainstay::decision",
        layer,
        action,
        why = &*why,
        deadline_left_ms = left,
        attempt = context.attempt,
        correlation_id = context.correlation_id.as_str(),
        "decision"
    );
    context.trail.push(Decision {
        layer: layer.into(),
        action: action.into(),
        why,
        attempt: context.attempt,
        endpoint: None,
        deadline_left_ms: Some(left),
        at_ms: 0,
    });
}
