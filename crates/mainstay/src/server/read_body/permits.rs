//! Permits to read a body: a limit in all, and a limit for each principal.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::metric::{Gauge, gauge};

use crate::server::names;

/// The reason why there is no permit to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NoReadPermit {
    /// All permits are taken.
    Full,
    /// The principal has its share.
    ShareTaken,
}

/// Counts of bodies being read. A principal is remembered only while one of its bodies is being read, so the permits
/// bound the memory.
#[derive(Debug)]
pub(super) struct ReadPermits {
    most: usize,
    most_each: usize,
    taken: Mutex<Taken>,
    gauge: Gauge,
}

#[derive(Debug, Default)]
struct Taken {
    all: usize,
    each: HashMap<Arc<str>, usize>,
}

impl ReadPermits {
    pub(super) fn new(most: usize, most_each: usize) -> Self {
        Self { most, most_each, taken: Mutex::default(), gauge: gauge!(names::BODIES_READING) }
    }

    pub(super) fn taken(&self) -> usize {
        self.lock().all
    }

    pub(super) fn take(self: &Arc<Self>, key: &Arc<str>) -> Result<ReadPermit, NoReadPermit> {
        let mut taken = self.lock();
        let of_key = taken.each.get(key).copied().unwrap_or(0);
        if of_key >= self.most_each {
            return Err(NoReadPermit::ShareTaken);
        }
        if taken.all >= self.most {
            return Err(NoReadPermit::Full);
        }
        taken.all += 1;
        taken.each.insert(Arc::clone(key), of_key + 1);
        drop(taken);
        self.gauge.increment(1.0);
        Ok(ReadPermit { permits: Arc::clone(self), key: Arc::clone(key) })
    }

    fn lock(&self) -> MutexGuard<'_, Taken> {
        // The counts are valid after every statement.
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A permit to read one body, returned on drop.
#[derive(Debug)]
pub(super) struct ReadPermit {
    permits: Arc<ReadPermits>,
    key: Arc<str>,
}

impl Drop for ReadPermit {
    fn drop(&mut self) {
        let mut taken = self.permits.lock();
        taken.all -= 1;
        match taken.each.get_mut(&self.key) {
            Some(more) if *more > 1 => *more -= 1,
            _ => drop(taken.each.remove(&self.key)),
        }
        drop(taken);
        self.permits.gauge.decrement(1.0);
    }
}
