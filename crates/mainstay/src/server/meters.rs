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
use http::StatusCode;

use super::names;
use crate::Outcome;

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

struct PerRoute {
    duration: Histogram,
    /// A short list that is searched in order: a route has few kinds of reply.
    replies: RwLock<Vec<(Reply, Counter)>>,
}

/// Status and outcome of a request; no status when there was no reply.
type Reply = (Option<StatusCode>, Outcome);

impl Meters {
    /// Counts a request that has arrived.
    pub(super) fn enter(&self) {
        self.gauge().increment(1.0);
    }

    /// Counts a request that has ended.
    pub(super) fn leave(&self, route: &Route, status: Option<StatusCode>, outcome: Outcome, took: Duration) {
        let per_route = self.per_route(route);
        per_route.duration.record(took.as_secs_f64());
        per_route.count(route, status, outcome);
        if outcome == Outcome::Cancelled {
            self.cancelled.get_or_init(|| counter!(names::CANCELLED)).increment(1);
        }
        self.gauge().decrement(1.0);
    }

    fn gauge(&self) -> &Gauge {
        self.gauge.get_or_init(|| gauge!(names::IN_FLIGHT))
    }

    fn per_route(&self, route: &Route) -> Arc<PerRoute> {
        if let Some(known) = self.routes.read().unwrap_or_else(PoisonError::into_inner).get(route) {
            return Arc::clone(known);
        }
        let made = Arc::new(PerRoute {
            duration: histogram!(names::DURATION, "route" => route.0.clone(), "method" => route.1),
            replies: RwLock::default(),
        });
        let mut routes = self.routes.write().unwrap_or_else(PoisonError::into_inner);
        if routes.len() < MAX_ROUTES {
            routes.insert(route.clone(), Arc::clone(&made));
        }
        made
    }
}

impl PerRoute {
    fn count(&self, route: &Route, status: Option<StatusCode>, outcome: Outcome) {
        let kind = (status, outcome);
        let replies = self.replies.read().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, known)) = replies.iter().find(|(known, _)| *known == kind) {
            known.increment(1);
            return;
        }
        drop(replies);
        let status = status.map_or(Cow::Borrowed("none"), |s| Cow::Owned(s.as_str().to_owned()));
        let made = counter!(
            names::REQUESTS,
            "route" => route.0.clone(),
            "method" => route.1,
            "status" => status,
            "outcome" => outcome.as_str()
        );
        made.increment(1);
        let mut replies = self.replies.write().unwrap_or_else(PoisonError::into_inner);
        // Two concurrent first requests may both have made the handle; two handles of one metric do no harm.
        if replies.len() < MAX_REPLIES {
            replies.push((kind, made));
        }
    }
}
