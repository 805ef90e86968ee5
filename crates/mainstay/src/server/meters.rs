//! Handles of the metrics that every request updates, looked up once and kept.
//!
//! A recorder finds a metric by hashing its name and labels, which must first be put together: half a microsecond and
//! several allocations for each metric. So handles are kept per route, method, status and outcome. Routes are
//! templates, so there are few. Past [`MAX_ROUTES`] (an application that labels by path creates too many series
//! anyway) handles are looked up each time. Handles are made at the first request, so install the recorder before
//! that.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::{Arc, OnceLock, PoisonError, RwLock};
use std::time::Duration;

use crate::metric::{Counter, Gauge, Histogram, counter, gauge, histogram};
use http::{HeaderValue, StatusCode};

use super::names;
use crate::headers::X_OUTCOME;
use crate::{Outcome, classify};

/// Maximum number of routes with kept handles, far more than one service has.
const MAX_ROUTES: usize = 512;
/// Maximum number of pairs of status and outcome for one route and method, with a wide margin.
const MAX_REPLIES: usize = 64;

/// The metrics of one stack. Shared by all its services.
#[derive(Default)]
pub(super) struct Meters {
    gauge: OnceLock<Gauge>,
    cancelled: OnceLock<Counter>,
    routes: RwLock<HashMap<Route, Arc<PerRoute>>>,
}

/// Route template and method.
type Route = (Cow<'static, str>, &'static str);

/// Status and outcome of a request; no status when there was no reply.
type Reply = (Option<StatusCode>, Outcome);

/// The handles of one route: a short list that is searched in order, because a route has few kinds of reply.
#[derive(Default)]
struct PerRoute(RwLock<Vec<(Reply, PerReply)>>);

#[derive(Clone)]
struct PerReply {
    requests: Counter,
    duration: Histogram,
}

impl Meters {
    /// Counts a request that has arrived.
    pub(super) fn enter(&self) {
        self.gauge().increment(1.0);
    }

    /// Counts a request that has ended.
    pub(super) fn leave(&self, route: &Route, status: Option<StatusCode>, outcome: Outcome, took: Duration) {
        let reply = self.per_route(route).reply(route, (status, outcome));
        reply.duration.record(took.as_secs_f64());
        reply.requests.increment(1);
        if outcome == Outcome::Cancelled {
            self.cancelled.get_or_init(|| counter!(names::CANCELLED)).increment(1);
        }
        self.gauge().decrement(1.0);
    }

    /// Starts the series of `route` at zero, for each of `statuses` and each outcome that a reply of the status has.
    /// A series that begins above zero has no increase, so a rule would miss the first failures of a process.
    pub(super) fn expect(&self, route: &Route, statuses: impl IntoIterator<Item = StatusCode>) {
        let per_route = self.per_route(route);
        for status in statuses.into_iter().map(Some).chain([None]) {
            for outcome in outcomes_of(status) {
                per_route.reply(route, (status, outcome)).requests.increment(0);
            }
        }
    }

    fn gauge(&self) -> &Gauge {
        self.gauge.get_or_init(|| gauge!(names::IN_FLIGHT))
    }

    fn per_route(&self, route: &Route) -> Arc<PerRoute> {
        if let Some(known) = self.routes.read().unwrap_or_else(PoisonError::into_inner).get(route) {
            return Arc::clone(known);
        }
        let mut routes = self.routes.write().unwrap_or_else(PoisonError::into_inner);
        if routes.len() < MAX_ROUTES {
            return Arc::clone(routes.entry(route.clone()).or_default());
        }
        Arc::default()
    }
}

impl PerRoute {
    fn reply(&self, route: &Route, kind: Reply) -> PerReply {
        let replies = self.0.read().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, known)) = replies.iter().find(|(known, _)| *known == kind) {
            return known.clone();
        }
        drop(replies);
        let (status, outcome) = kind;
        let (path, method) = (&route.0, route.1);
        let status = status.map_or(Cow::Borrowed("none"), |s| Cow::Owned(s.as_str().to_owned()));
        let made = PerReply {
            duration: histogram!(
                names::DURATION, "route" => path.clone(), "method" => method, "status" => status.clone()
            ),
            requests: counter!(
                names::REQUESTS,
                "route" => path.clone(), "method" => method, "status" => status, "outcome" => outcome.as_str()
            ),
        };
        let mut replies = self.0.write().unwrap_or_else(PoisonError::into_inner);
        // Two concurrent first requests may both have made the handle; two handles of one metric do no harm.
        if replies.len() < MAX_REPLIES {
            replies.push((kind, made.clone()));
        }
        made
    }
}

/// The outcomes that requests with a reply of `status` can have. Every reply can be cut off by its caller.
fn outcomes_of(status: Option<StatusCode>) -> Vec<Outcome> {
    let effects = [None, Some("not-executed"), Some("refused"), Some("unknown")];
    let of_reply = status.into_iter().flat_map(|status| {
        effects.map(|effect| {
            let effect = effect.map(|name| (X_OUTCOME, HeaderValue::from_static(name)));
            classify::reply(status, &effect.into_iter().collect())
        })
    });
    let mut outcomes = vec![Outcome::Cancelled];
    for outcome in of_reply.chain(status.is_none().then_some(Outcome::Unknown)) {
        if !outcomes.contains(&outcome) {
            outcomes.push(outcome);
        }
    }
    outcomes
}
