//! Sampling of the canonical lines of successful reads.
//!
//! Clients poll, so most lines of a log would say that a read has succeeded. One line in so many is written for each
//! route and carries that number as `log_weight`. Every write and every other outcome keeps its line.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::{Mutex, PoisonError};

use tracing::Event;

use super::fields::{Value, Visitor};

/// Target of the canonical lines.
const CANONICAL: &str = "mainstay::canonical";

/// Routes that are counted one by one; further routes share a count, so that memory stays bounded.
const MAX_ROUTES: usize = 512;

/// Counts of the successful reads, by route.
#[derive(Debug)]
pub(super) struct Sample {
    one_in: NonZeroU32,
    seen: Mutex<HashMap<String, u32>>,
}

/// Whether a line is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kept {
    /// The line stands for itself.
    Alone,
    /// The line stands for this many lines.
    For(u32),
    /// The line is not written.
    No,
}

impl Sample {
    pub(super) fn one_in(one_in: NonZeroU32) -> Self {
        Self { one_in, seen: Mutex::default() }
    }

    pub(super) fn decide(&self, event: &Event<'_>) -> Kept {
        if self.one_in == NonZeroU32::MIN || event.metadata().target() != CANONICAL {
            return Kept::Alone;
        }
        let (mut is_read, mut is_good, mut route) = (false, false, String::new());
        event.record(&mut Visitor(|name, value: Value<'_>| match (name, value) {
            ("http.request.method", Value::Text(method)) => is_read = matches!(method, "GET" | "HEAD"),
            ("outcome", Value::Text(outcome)) => is_good = outcome == "success",
            ("http.route", Value::Text(path)) => path.clone_into(&mut route),
            _ => {}
        }));
        if is_read && is_good { self.count(route) } else { Kept::Alone }
    }

    fn count(&self, route: String) -> Kept {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let route = if seen.len() < MAX_ROUTES || seen.contains_key(&route) { route } else { String::new() };
        let seen = seen.entry(route).or_default();
        let is_kept = *seen == 0;
        *seen = (*seen + 1) % self.one_in;
        if is_kept { Kept::For(self.one_in.get()) } else { Kept::No }
    }
}
