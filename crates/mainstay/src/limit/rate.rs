//! A quota of requests per window for each key, kept as one virtual schedule per key (the generic cell rate algorithm
//! of ITU-T I.371).
//!
//! Each key has one number; there are no timers and no windows to reset. Each request moves the key's theoretical
//! arrival time by one interval, and a request is refused while that time is more than a window ahead. An idle key
//! may spend its whole quota at once. Keys are kept as 64-bit hashes under a random seed, so that memory is bounded
//! and no key, which may be a credential, is stored.

use std::collections::HashMap;
use std::collections::hash_map::{Entry, RandomState};
use std::hash::{BuildHasher, Hash};
use std::num::NonZeroU32;
use std::time::Duration;

use tokio::time::Instant;

use crate::sync::{Mutex, lock};

/// A quota per key. Shared by reference: all users of one limiter share its quotas.
///
/// ```
/// use mainstay::limit::RateLimiter;
/// use std::time::Duration;
///
/// let limiter = RateLimiter::new(2.try_into().unwrap(), Duration::from_secs(10), 1_000);
/// assert_eq!(limiter.check("client-1").unwrap().remaining, 1);
/// assert_eq!(limiter.check("client-1").unwrap().remaining, 0);
/// assert!(limiter.check("client-1").unwrap_err().retry_after <= Duration::from_secs(5));
/// assert!(limiter.check("client-2").is_ok());
/// ```
#[derive(Debug)]
pub struct RateLimiter {
    quota: NonZeroU32,
    window: Duration,
    /// Nanoseconds between two requests at the steady rate.
    interval: u64,
    max_keys: usize,
    seed: RandomState,
    epoch: Instant,
    /// The theoretical arrival time of each key's next request, in nanoseconds from `epoch`.
    keys: Mutex<HashMap<u64, u64>>,
}

/// The remaining quota of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Allowance {
    /// Requests that would be admitted now.
    pub remaining: u32,
    /// Time from now until the whole quota is available again.
    pub reset: Duration,
}

/// Error: the quota is spent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the quota is spent; the next request is admitted in {retry_after:?}")]
pub struct QuotaSpent {
    /// Time from now until the next request would be admitted.
    pub retry_after: Duration,
    /// Time from now until the whole quota is available again.
    pub reset: Duration,
}

impl RateLimiter {
    /// `quota` requests per `window` for each key. At most `max_keys` keys are remembered at the same time.
    pub fn new(quota: NonZeroU32, window: Duration, max_keys: usize) -> Self {
        let interval = nanos(window / quota.get()).max(1);
        Self {
            quota,
            window,
            interval,
            max_keys: max_keys.max(1),
            seed: RandomState::new(),
            epoch: Instant::now(),
            keys: Mutex::new(HashMap::new()),
        }
    }

    /// Requests per window.
    pub fn quota(&self) -> u32 {
        self.quota.get()
    }

    /// Length of the window.
    pub fn window(&self) -> Duration {
        self.window
    }

    /// Counts one request of `key`, or refuses it. A refused request uses no quota.
    pub fn check(&self, key: impl Hash) -> Result<Allowance, QuotaSpent> {
        let hash = self.seed.hash_one(key);
        let now = nanos(Instant::now().duration_since(self.epoch));
        let burst = self.interval * u64::from(self.quota.get());
        let mut keys = lock(&self.keys);
        if keys.len() >= self.max_keys && !keys.contains_key(&hash) {
            make_room(&mut keys, now);
        }
        let entry = keys.entry(hash);
        let due = match &entry {
            Entry::Occupied(known) => (*known.get()).max(now),
            Entry::Vacant(_) => now,
        };
        let next = due + self.interval;
        let ahead = next - now;
        if ahead > burst {
            let retry_after = Duration::from_nanos(ahead - burst);
            return Err(QuotaSpent { retry_after, reset: Duration::from_nanos(due - now) });
        }
        entry.insert_entry(next);
        let remaining = u32::try_from((burst - ahead) / self.interval).unwrap_or(u32::MAX);
        Ok(Allowance { remaining, reset: Duration::from_nanos(ahead) })
    }

    /// Number of keys remembered now.
    pub fn keys(&self) -> usize {
        lock(&self.keys).len()
    }
}

/// Forgets one key, so that a new one can be counted. A key whose arrival time has passed has its full quota and
/// loses nothing. If there is none, the key with most quota left among a few random keys is forgotten. It takes
/// constant time: a scan of all keys would let a client that invents keys slow down every other client.
fn make_room(keys: &mut HashMap<u64, u64>, now: u64) {
    const LOOK_AT: usize = 16;
    let mut victim = None;
    for (&key, &due) in keys.iter().take(LOOK_AT) {
        if victim.is_none_or(|(_, least)| due < least) {
            victim = Some((key, due));
        }
        if due <= now {
            break;
        }
    }
    if let Some((key, _)) = victim {
        keys.remove(&key);
    }
}

fn nanos(duration: Duration) -> u64 {
    // The maximum is 584 years.
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX / 4)
}

#[cfg(test)]
mod tests;
