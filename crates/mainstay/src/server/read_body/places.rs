//! Places for bodies that are being read: so many in all, and so many for each principal.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use metrics::{Gauge, gauge};

use crate::server::names;

/// Why there is no place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NoPlace {
    /// All are taken.
    Full,
    /// This principal has its share.
    ShareTaken,
}

/// Remembers a principal only while one of its bodies is being read, so the memory is bounded by the places.
#[derive(Debug)]
pub(super) struct Places {
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

impl Places {
    pub(super) fn new(most: usize, most_each: usize) -> Self {
        Self { most, most_each, taken: Mutex::default(), gauge: gauge!(names::BODIES_READING) }
    }

    pub(super) fn taken(&self) -> usize {
        self.lock().all
    }

    pub(super) fn take(self: &Arc<Self>, key: &Arc<str>) -> Result<Place, NoPlace> {
        let mut taken = self.lock();
        let of_key = taken.each.get(key).copied().unwrap_or(0);
        if of_key >= self.most_each {
            return Err(NoPlace::ShareTaken);
        }
        if taken.all >= self.most {
            return Err(NoPlace::Full);
        }
        taken.all += 1;
        taken.each.insert(Arc::clone(key), of_key + 1);
        drop(taken);
        self.gauge.increment(1.0);
        Ok(Place { places: Arc::clone(self), key: Arc::clone(key) })
    }

    fn lock(&self) -> MutexGuard<'_, Taken> {
        // The counts are valid after every statement.
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One place, given back on drop.
#[derive(Debug)]
pub(super) struct Place {
    places: Arc<Places>,
    key: Arc<str>,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.lock();
        taken.all -= 1;
        match taken.each.get_mut(&self.key) {
            Some(more) if *more > 1 => *more -= 1,
            _ => drop(taken.each.remove(&self.key)),
        }
        drop(taken);
        self.places.gauge.decrement(1.0);
    }
}
