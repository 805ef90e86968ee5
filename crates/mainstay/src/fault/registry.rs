//! The registry of fault points and their faults. Layers look up faults in it, and the admin API sets them.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::Method;
use serde::Serialize;
use tokio::time::Instant;

use super::spec::{Fault, FaultError, FaultSpec};
use crate::random::Random;

/// The fault points of a process and the fault set at each. Clones share them. While no fault is set, a point costs
/// one atomic load.
#[derive(Debug, Clone)]
pub struct Faults(Arc<FaultPoints>);

#[derive(Debug)]
struct FaultPoints {
    set: AtomicUsize,
    points: Mutex<BTreeMap<String, Point>>,
    random: Random,
}

#[derive(Debug, Default)]
struct Point {
    armed: Option<Armed>,
    hits: u64,
}

#[derive(Debug)]
struct Armed {
    spec: FaultSpec,
    left: Option<u64>,
    until: Option<Instant>,
}

/// State of a fault point.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct FaultStatus {
    /// The point's name.
    pub name: String,
    /// The fault set there.
    pub fault: Option<FaultSpec>,
    /// Calls hit at this point since the process began.
    pub hits: u64,
}

/// The fault that one call was hit by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Hit {
    pub(super) fault: Fault,
    pub(super) delay: Duration,
}

impl Faults {
    /// A registry without points. `random` decides which calls are hit.
    pub fn new(random: Random) -> Self {
        Self(Arc::new(FaultPoints { set: AtomicUsize::new(0), points: Mutex::default(), random }))
    }

    fn points(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Point>> {
        self.0.points.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Registers a point, so that faults can be set there. Layers call it when they are built.
    pub fn declare(&self, name: &str) {
        self.points().entry(name.to_owned()).or_default();
    }

    /// Every point, sorted by name.
    pub fn list(&self) -> Vec<FaultStatus> {
        let now = Instant::now();
        self.points().iter().map(|(name, point)| point.status(name, now)).collect()
    }

    /// The point `name`.
    pub fn get(&self, name: &str) -> Option<FaultStatus> {
        self.points().get(name).map(|point| point.status(name, Instant::now()))
    }

    /// Sets, or replaces, the fault at a point.
    pub fn put(&self, name: &str, spec: FaultSpec) -> Result<(), FaultError> {
        spec.validate()?;
        let mut points = self.points();
        let Some(point) = points.get_mut(name) else {
            let known = points.keys().cloned().collect();
            return Err(FaultError::UnknownPoint { name: name.to_owned(), known });
        };
        let until = spec.lasts().map(|lasts| Instant::now() + lasts);
        point.armed = Some(Armed { left: spec.times, until, spec });
        self.count(&points);
        Ok(())
    }

    /// Removes the fault at a point; false when there is no such point.
    pub fn delete(&self, name: &str) -> bool {
        let mut points = self.points();
        let Some(point) = points.get_mut(name) else { return false };
        point.armed = None;
        self.count(&points);
        true
    }

    /// Removes every fault.
    pub fn clear(&self) {
        let mut points = self.points();
        points.values_mut().for_each(|point| point.armed = None);
        self.count(&points);
    }

    fn count(&self, points: &BTreeMap<String, Point>) {
        let set = points.values().filter(|point| point.armed.is_some()).count();
        self.0.set.store(set, Ordering::Release);
    }

    pub(super) fn draw(&self, name: &str, method: &Method, path: &str) -> Option<Hit> {
        if self.0.set.load(Ordering::Acquire) == 0 {
            return None;
        }
        let mut points = self.points();
        let point = points.get_mut(name)?;
        let hit = point.draw(method, path, &self.0.random);
        self.count(&points);
        hit
    }
}

impl Default for Faults {
    fn default() -> Self {
        Self::new(Random::from_entropy())
    }
}

impl Point {
    fn status(&self, name: &str, now: Instant) -> FaultStatus {
        let fault = self.armed.as_ref().filter(|armed| !armed.is_over(now)).map(|armed| armed.spec.clone());
        FaultStatus { name: name.to_owned(), fault, hits: self.hits }
    }

    fn draw(&mut self, method: &Method, path: &str, random: &Random) -> Option<Hit> {
        let armed = self.armed.as_mut()?;
        if armed.is_over(Instant::now()) {
            self.armed = None;
            return None;
        }
        let FaultSpec { method: only, path_prefix, probability, .. } = &armed.spec;
        let meant = only.as_deref().is_none_or(|only| only.eq_ignore_ascii_case(method.as_str()))
            && path_prefix.as_deref().is_none_or(|prefix| path.starts_with(prefix));
        if !meant || !random.chance(*probability) {
            return None;
        }
        let fault = armed.spec.fault.clone();
        if let Some(left) = &mut armed.left {
            *left -= 1;
            if *left == 0 {
                self.armed = None;
            }
        }
        self.hits += 1;
        let delay = match fault {
            Fault::Latency { ms, jitter_ms } => {
                Duration::from_millis(ms) + random.up_to(Duration::from_millis(jitter_ms))
            }
            Fault::Error { .. } | Fault::Hang | Fault::ReplyLost { .. } | Fault::Garbage => Duration::ZERO,
        };
        Some(Hit { fault, delay })
    }
}

impl Armed {
    fn is_over(&self, now: Instant) -> bool {
        self.until.is_some_and(|until| now >= until)
    }
}
