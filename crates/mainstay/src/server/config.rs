//! What a server stack can be told, with defaults that hold for a small service.

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
use crate::config_error::{Check, ConfigError};
use crate::context::Priority;
use crate::limit::{Aimd, Algorithm, Bounds, Fixed, Gradient, QueueConfig};

/// How the concurrency limit is decided.
#[derive(Debug)]
#[non_exhaustive]
pub enum LimitConfig {
    /// This many requests at once, at least 1.
    Fixed(usize),
    /// Found out from latency and throughput; see [`Gradient`]. For handlers that compute or use a database. Not for
    /// handlers that wait for a peer up to their deadline: there, latency says nothing of this service's load, so set
    /// the ceiling above the deadline or use a fixed limit.
    Gradient(Bounds),
    /// Up until something breaks, then down; see [`Aimd`].
    Aimd(Bounds),
    /// As the algorithm says.
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

/// Settings of [`super::stack`]. Construct with [`ServerConfig::default`] and struct update.
pub struct ServerConfig {
    /// How much time requests get. Default 2 s, at most 30 s.
    pub deadline: DeadlinePolicy,
    /// How long after its deadline a handler is cut off. Default 50 ms.
    pub deadline_grace: Duration,
    /// Requests in hand at once. Default 64, fixed: a few for each connection of a usual database pool of 16.
    pub limit: LimitConfig,
    /// Who waits, and how. Default: half the limit, newest-first while standing.
    pub queue: QueueConfig,
    /// A quota per principal. Default none.
    pub rate_limit: Option<RateLimitConfig>,
    /// The longest request body, in bytes. Default none.
    pub max_body: Option<u64>,
    /// How bodies are read before a permit is taken. Default none: handlers read them, holding their permits.
    pub read_body: Option<ReadBodyConfig>,
    /// The most that a request may claim in `X-Priority`. Default none: claims are believed.
    pub priority_ceiling: Option<PriorityFn>,
    /// Finds the route label of a request. Default none: `unmatched`, unless a
    /// [`RouteLabel`](super::RouteLabel) is in the extensions.
    pub route: Option<RouteFn>,
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
        }
    }
}

impl ServerConfig {
    /// Labels requests by what `route` finds; it must be a template of bounded variety, never a path.
    #[must_use]
    pub fn route(
        mut self,
        route: impl Fn(&RequestHead<'_>) -> Option<Cow<'static, str>> + Send + Sync + 'static,
    ) -> Self {
        self.route = Some(Arc::new(route));
        self
    }

    /// Lets a request claim at most the priority that `ceiling` finds for it: an operator's may be critical, an unknown
    /// client's not.
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
