//! Holds that could not be expired. They are set aside for a growing time, so that the sweep expires the others.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chassis::ops::Condition;
use chassis::unreadable::plural;
use metrics::{describe_gauge, gauge};
use tokio::time::Instant;
use uuid::Uuid;

/// The first pause; each further failure doubles it.
const FIRST: Duration = Duration::from_secs(1);
/// The longest pause: soon enough after a repair, and at most two tries a minute.
const LONGEST: Duration = Duration::from_secs(30);
/// Limit on holds that are set aside: some 1 MB. Further holds are tried at each sweep.
const MOST: usize = 10_000;

#[derive(Debug)]
struct Aside {
    /// Cause of the database's refusal; `None` if the row is unreadable or locked.
    refusal: Option<String>,
    pause: Duration,
    until: Instant,
}

/// The holds set aside, by id.
#[derive(Debug)]
pub(super) struct SetAside(Mutex<HashMap<Uuid, Aside>>);

impl SetAside {
    /// No holds; the metric series exists from now on.
    pub(super) fn new() -> Self {
        describe_gauge!(
            "mainstay_holds_stuck",
            "Holds that have ended and whose expiry the database refuses"
        );
        gauge!("mainstay_holds_stuck").set(0.0);
        Self(Mutex::default())
    }

    /// True if the pause of the hold is still running.
    pub(super) fn is_waiting(&self, id: Uuid) -> bool {
        self.all().get(&id).is_some_and(|aside| aside.until > Instant::now())
    }

    /// Sets a hold aside, for twice the time of its last pause. `refusal` is the cause if the database refused the expiry.
    pub(super) fn put(&self, id: Uuid, refusal: Option<String>) {
        let mut all = self.all();
        let pause = all.get(&id).map_or(FIRST, |aside| (aside.pause * 2).min(LONGEST));
        if let Some(cause) = &refusal {
            tracing::error!(reservation_id = %id, cause, ?pause, "expiry refused by the database; hold set aside");
        }
        if all.len() < MOST || all.contains_key(&id) {
            all.insert(id, Aside { refusal, pause, until: Instant::now() + pause });
        }
    }

    /// Removes holds that were expired.
    pub(super) fn forget<'a>(&self, ended: impl Iterator<Item = &'a Uuid>) {
        let mut all = self.all();
        for id in ended {
            all.remove(id);
        }
    }

    /// Removes the holds that are not due any more, and sets the gauge.
    pub(super) fn keep(&self, due: &HashSet<Uuid>) {
        let mut all = self.all();
        all.retain(|id, _| due.contains(id));
        let stuck = all.values().filter(|aside| aside.refusal.is_some()).count();
        gauge!("mainstay_holds_stuck").set(u32::try_from(stuck).unwrap_or(u32::MAX));
    }

    /// Ends every pause.
    pub(super) fn try_now(&self) {
        let now = Instant::now();
        self.all().values_mut().for_each(|aside| aside.until = now);
    }

    /// The condition `stuck`. It is reported, and not `ok` while the database refuses the expiry of a hold.
    pub(super) fn condition(&self) -> Condition {
        let all = self.all();
        let refused = all.iter().filter(|(_, aside)| aside.refusal.is_some());
        let mut refused: Vec<_> = refused.map(|(id, _)| id).collect();
        refused.sort();
        match refused.first() {
            None => Condition::reported("stuck", true),
            // The cause may quote the row, so only the log has it.
            Some(id) => Condition::reported("stuck", false).detail(format!(
                "{} cannot be expired, first {id}: the log names the cause",
                plural(refused.len(), "hold")
            )),
        }
    }

    fn all(&self) -> MutexGuard<'_, HashMap<Uuid, Aside>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
