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
        let rate = self.rate_limit.as_ref();
        let bounds = match &self.limit {
            LimitConfig::Gradient(bounds) | LimitConfig::Aimd(bounds) => Some(*bounds),
            LimitConfig::Fixed(_) | LimitConfig::Custom(_) => None,
        };
        let rules = [
            (self.deadline.default == zero, "deadline.default", "longer than zero"),
            (self.deadline.max < self.deadline.default, "deadline.max", "at least deadline.default"),
            (self.deadline.max > day, "deadline.max", "at most a day"),
            (self.deadline_grace > day, "deadline_grace", "at most a day"),
            (matches!(self.limit, LimitConfig::Fixed(0)), "limit", "at least 1"),
            (bounds.is_some_and(|b| b.min == 0), "limit.min", "at least 1"),
            (bounds.is_some_and(|b| b.max < b.min), "limit.max", "at least limit.min"),
            (
                bounds.is_some_and(|b| !(b.min..=b.max).contains(&b.start)),
                "limit.start",
                "between limit.min and limit.max",
            ),
            (bounds.is_some_and(|b| b.ceiling == zero), "limit.ceiling", "longer than zero"),
            (self.queue.target == zero, "queue.target", "longer than zero"),
            (self.queue.interval <= self.queue.target, "queue.interval", "longer than queue.target"),
            (self.queue.interval > day, "queue.interval", "at most a day"),
            (rate.is_some_and(|r| r.window < Duration::from_millis(1)), "rate_limit.window", "at least 1 ms"),
            (rate.is_some_and(|r| r.max_keys == 0), "rate_limit.max_keys", "at least 1"),
        ];
        let problems: Vec<_> = rules
            .into_iter()
            .filter_map(|(bad, field, range)| bad.then_some(crate::ConfigError { field, range }))
            .collect();
        if problems.is_empty() { Ok(()) } else { Err(ConfigError { problems }) }
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
            .finish_non_exhaustive()
    }
}

/// Every setting that is out of its range, not only the first; nothing was built.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// One for each wrong setting.
    pub problems: Vec<crate::ConfigError>,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, problem) in self.problems.iter().enumerate() {
            write!(f, "{}{problem}", if n == 0 { "" } else { "; " })?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigError {}
