//! The verdict on a request: whether it met the objectives of its service.

use serde::{Deserialize, Serialize};

/// Verdict on one event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Nothing went wrong. A business refusal is good.
    #[default]
    Good,
    /// An objective was missed, or the event failed. Such an event is kept whole.
    Bad,
}

/// An objective, as far as one request can meet or miss it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Objective {
    /// Name of the objective, as in its definition.
    pub name: &'static str,
    /// Method that the objective is about; `None` for all.
    pub method: Option<&'static str>,
    /// Condition that makes a request good.
    pub good: Good,
}

/// Condition that makes a request good.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Good {
    /// The reply is no 5xx and no refusal for lack of room (429).
    Answered,
    /// The reply came within this many milliseconds. Requests that [`Good::Answered`] calls bad do not count.
    WithinMs(f64),
}

/// The objectives of a service.
#[derive(Debug, Clone, Copy, Default)]
pub struct Objectives(pub &'static [Objective]);

impl Objectives {
    /// The verdict on a request, with the names of the objectives that it missed.
    ///
    /// A request without a reply missed no objective, because its caller left; still its event is bad if its effect is
    /// unknown.
    pub fn judge(self, request: Judged<'_>) -> (Verdict, Vec<&'static str>) {
        let is_answered = request.status.is_some_and(|status| status < 500 && status != 429);
        let missed: Vec<_> = self
            .0
            .iter()
            .filter(|objective| objective.method.is_none_or(|method| method == request.method))
            .filter(|objective| match objective.good {
                Good::Answered => request.status.is_some() && !is_answered,
                Good::WithinMs(most) => is_answered && request.duration_ms > most,
            })
            .map(|objective| objective.name)
            .collect();
        let is_failed = request.status.is_some_and(|status| status >= 500) || request.outcome == "unknown";
        let verdict = if missed.is_empty() && !is_failed { Verdict::Good } else { Verdict::Bad };
        (verdict, missed)
    }
}

/// The parts of a request that decide its verdict.
#[derive(Debug, Clone, Copy)]
pub struct Judged<'a> {
    pub method: &'a str,
    pub status: Option<u16>,
    pub outcome: &'a str,
    pub duration_ms: f64,
}

#[cfg(test)]
mod tests {
    use super::*;

    const OBJECTIVES: Objectives = Objectives(&[
        Objective { name: "availability", method: Some("POST"), good: Good::Answered },
        Objective { name: "latency", method: Some("POST"), good: Good::WithinMs(300.0) },
    ]);

    #[test]
    fn a_business_refusal_is_good_and_a_failure_or_a_late_answer_is_bad() {
        let judge = |method, status, outcome, duration_ms| {
            OBJECTIVES.judge(Judged { method, status, outcome, duration_ms })
        };
        assert_eq!(judge("POST", Some(201), "success", 299.0), (Verdict::Good, vec![]));
        assert_eq!(judge("POST", Some(409), "refused", 3.0), (Verdict::Good, vec![]));
        assert_eq!(judge("POST", Some(503), "rejected-unsent", 900.0), (Verdict::Bad, vec!["availability"]));
        assert_eq!(judge("POST", Some(429), "throttled", 1.0), (Verdict::Bad, vec!["availability"]));
        assert_eq!(judge("POST", Some(201), "success", 301.0), (Verdict::Bad, vec!["latency"]));
        assert_eq!(judge("POST", Some(202), "unknown", 30.0), (Verdict::Bad, vec![]));
        assert_eq!(judge("POST", None, "cancelled", 3_000.0), (Verdict::Good, vec![]));
        assert_eq!(judge("GET", Some(500), "failed-known", 1.0), (Verdict::Bad, vec![]));
        assert_eq!(judge("GET", Some(200), "success", 900.0), (Verdict::Good, vec![]));
    }
}
