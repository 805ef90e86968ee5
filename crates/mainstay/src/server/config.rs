//! Settings of a server stack, with defaults that suit a small service.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::context::{DeadlinePolicy, PriorityFn};
use super::deadline::DeadlineLayer;
use super::head::RequestHead;
use super::observe::RouteFn;
use super::rate_limit::RateLimitConfig;
use super::read_body::ReadBodyConfig;
use super::record::ObserverFn;
use crate::config_error::{Check, ConfigError};
use crate::context::Priority;
use crate::limit::{Aimd, Algorithm, Bounds, Fixed, Gradient, QueueConfig};

/// The algorithm of the concurrency limit.
#[derive(Debug)]
#[non_exhaustive]
pub enum LimitConfig {
    /// A fixed number of requests at the same time, at least 1.
    Fixed(usize),
    /// A limit found from latency and throughput; see [`Gradient`]. For handlers that compute or use a database. Not
    /// for handlers that wait for a peer up to their deadline: there, latency shows nothing of this service's load,
    /// so set the ceiling above the deadline or use a fixed limit.
    Gradient(Bounds),
    /// A limit that grows until requests fail, and then shrinks; see [`Aimd`].
    Aimd(Bounds),
    /// An algorithm of the application.
    Custom(Box<dyn Algorithm>),
}

impl LimitConfig {
    pub(super) fn build(self) -> Box<dyn Algorithm> {
        match self {
            Self::Fixed(limit) => Box::new(Fixed::new(limit)),
            Self::Gradient(bounds) => Box::new(Gradient::new(bounds)),
            Self::Aimd(bounds) => Box::new(Aimd::new(bounds)),
            Self::Custom(algorithm) => algorithm,
        }
    }
}

/// Settings of [`super::stack`]. Begin with [`ServerConfig::default`].
#[non_exhaustive]
pub struct ServerConfig {
    /// Deadlines of requests. Default 2 s, at most 30 s.
    pub deadline: DeadlinePolicy,
    /// Time after its deadline at which a handler is cut off. Default 50 ms.
    pub deadline_grace: Duration,
    /// Limit of requests in flight. Default 64, fixed: a few for each connection of a usual database pool of 16.
    pub limit: LimitConfig,
    /// Settings of the queue. Default: half of the limit, newest-first while standing.
    pub queue: QueueConfig,
    /// Quota per principal. Default none.
    pub rate_limit: Option<RateLimitConfig>,
    /// Longest request body, in bytes. Default none.
    pub max_body: Option<u64>,
    /// Reading of bodies before a permit is taken. Default none: handlers read them while they hold their permits.
    pub read_body: Option<ReadBodyConfig>,
    /// Highest priority that a request may claim in `X-Priority`. Default none: every claim is accepted.
    pub priority_ceiling: Option<PriorityFn>,
    /// Function that finds the route label of a request. Default none: the label is `unmatched`, unless a
    /// [`RouteLabel`](super::RouteLabel) is in the extensions.
    /// [`RouteLabel`](super::RouteLabel) is in the extensions.
    pub route: Option<RouteFn>,
    /// Function that receives each request that has ended, with the values of its canonical line. Default none.
    pub observer: Option<ObserverFn>,
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            deadline: DeadlinePolicy::default(),
            deadline_grace: DeadlineLayer::GRACE,
            limit: LimitConfig::Fixed(64),
            queue: QueueConfig::default(),
            rate_limit: None,
            max_body: None,
            read_body: None,
            priority_ceiling: None,
            route: None,
            observer: None,
        }
    }
}

crate::settings::setters! {
    ServerConfig {
        deadline: DeadlinePolicy,
        deadline_grace: Duration,
        limit: LimitConfig,
        queue: QueueConfig,
        rate_limit: Option<RateLimitConfig>,
        max_body: Option<u64>,
        read_body: Option<ReadBodyConfig>,
        observer: Option<ObserverFn>,
    }
}

impl ServerConfig {
    /// Labels requests with the result of `route`. It must be a template from a small fixed set, and never a path.
    #[must_use]
    pub fn route(
        mut self,
        route: impl Fn(&RequestHead<'_>) -> Option<Cow<'static, str>> + Send + Sync + 'static,
    ) -> Self {
        self.route = Some(Arc::new(route));
        self
    }

    /// Lowers each request's priority to at most the result of `ceiling`: for example, an operator may claim
    /// `critical` and an unknown client may not.
    #[must_use]
    pub fn priority_ceiling(
        mut self,
        ceiling: impl Fn(&RequestHead<'_>) -> Priority + Send + Sync + 'static,
    ) -> Self {
        self.priority_ceiling = Some(Arc::new(ceiling));
        self
    }

    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        let (zero, day) = (Duration::ZERO, Duration::from_hours(24));
        let mut check = Check::default();
        let deadline = &self.deadline;
        check.that(deadline.default > zero, "deadline.default", &deadline.default, "longer than zero");
        let most = deadline.default..=day;
        check.within("deadline.max", &deadline.max, most, "at least deadline.default, and at most a day");
        check.within("deadline_grace", &self.deadline_grace, zero..=day, "at most a day");
        match &self.limit {
            LimitConfig::Fixed(limit) => check.that(*limit > 0, "limit", limit, "at least 1"),
            LimitConfig::Gradient(bounds) | LimitConfig::Aimd(bounds) => {
                let Bounds { min, start, max, ceiling } = bounds;
                check.that(*min > 0, "limit.min", min, "at least 1");
                check.that(max >= min, "limit.max", max, "at least limit.min");
                check.within("limit.start", start, *min..=*max, "between limit.min and limit.max");
                check.that(*ceiling > zero, "limit.ceiling", ceiling, "longer than zero");
            }
            LimitConfig::Custom(_) => {}
        }
        let queue = &self.queue;
        check.that(queue.target > zero, "queue.target", &queue.target, "longer than zero");
        let interval = queue.interval > queue.target && queue.interval <= day;
        let words = "longer than queue.target, and at most a day";
        check.that(interval, "queue.interval", &queue.interval, words);
        if let Some(rate) = &self.rate_limit {
            let millisecond = Duration::from_millis(1);
            check.that(rate.window >= millisecond, "rate_limit.window", &rate.window, "at least 1 ms");
            check.that(rate.max_keys > 0, "rate_limit.max_keys", &rate.max_keys, "at least 1");
        }
        if let Some(ReadBodyConfig { max, time, at_once, at_once_each, .. }) = &self.read_body {
            check.that(*max > 0, "read_body.max", max, "at least 1");
            check.that(*time > zero, "read_body.time", time, "longer than zero");
            check.that(*at_once > 0, "read_body.at_once", at_once, "at least 1");
            check.that(*at_once_each > 0, "read_body.at_once_each", at_once_each, "at least 1");
        }
        check.finish()
    }
}

impl fmt::Debug for ServerConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerConfig")
            .field("deadline", &self.deadline)
            .field("deadline_grace", &self.deadline_grace)
            .field("limit", &self.limit)
            .field("queue", &self.queue)
            .field("rate_limit", &self.rate_limit)
            .field("max_body", &self.max_body)
            .field("read_body", &self.read_body)
            .finish_non_exhaustive()
    }
}
