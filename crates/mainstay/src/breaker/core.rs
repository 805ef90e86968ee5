//! The breaker's state machine, without tasks, timers or names. The caller passes in the time, as nanoseconds since
//! the breaker was created, and the random source.
//!
//! One atomic word holds the state, its generation and one point in time. A call through a closed breaker therefore
//! costs one load to be admitted and one addition to be counted. Every change of the word happens under the mutex:
//! changes are rare, and every call reads.
//!
//! A probe whose caller left shows nothing of the endpoint, and the next caller gets its probe at once. An endpoint
//! that hangs while every caller leaves early must not keep the breaker half-open for ever. So the breaker adds up
//! the time that such probes have waited since the last answer, each with at least a twentieth of `probe_timeout`,
//! and opens when the sum reaches `probes` times `probe_timeout`. One half-open period therefore makes at most 20
//! times `probes` such probes, `probes` at a time.
//!
//! Each call remembers the generation in which it was admitted. Its result counts only in that generation: a late
//! result from before the breaker opened can neither close nor reopen it.

use std::borrow::Cow;
use std::time::Duration;

pub(crate) use super::facts::{Admitted, Ended, Order, Rejected, Transition, Verdict, View};
use super::pace::{open_wait, ramp_admits};
use super::word::{MILLIS, Word};
use super::{BreakerConfig, BreakerState};
use crate::random::Random;
use crate::sync::{AtomicU32, AtomicU64, Mutex, MutexGuard, Ordering, lock};
use crate::window::{Counts, Window};

/// Slots of the window: 100 ms each with the default window of 10 s.
const SLOTS: usize = if cfg!(loom) { 2 } else { 100 };

#[derive(Debug, Clone, Default)]
struct Slow {
    /// Probes of this half-open generation that are in flight or have succeeded.
    probes_taken: u32,
    probes_succeeded: u32,
    /// Whether a repeat is among the probes in flight. Repeats take at most one probe, so that first tries find a
    /// free one.
    repeat_in_flight: bool,
    /// Time, in nanoseconds, that probes whose callers left have waited since the last answer.
    unanswered: u64,
    /// Times the breaker has opened since it was last closed.
    reopened: u32,
    ramp_asked: u64,
    ramp_admitted: u64,
    trips: u64,
}

impl Slow {
    /// Whether a half-open breaker may let one more probe through.
    fn has_place(&self, repeated: bool, config: &BreakerConfig) -> bool {
        self.probes_taken < config.probes && !(repeated && self.repeat_in_flight)
    }
}

#[derive(Debug)]
pub(crate) struct Core {
    word: AtomicU64,
    consecutive: AtomicU32,
    /// `a` calls, `b` failures, `c` slow calls.
    window: Window<SLOTS>,
    slow: Mutex<Slow>,
}

impl Core {
    pub(crate) fn new(config: &BreakerConfig) -> Self {
        Self {
            word: AtomicU64::new(Word::new(BreakerState::Closed, 0, 0).0),
            consecutive: AtomicU32::new(0),
            window: Window::new(config.window),
            slow: Mutex::default(),
        }
    }

    fn load(&self) -> Word {
        Word(self.word.load(Ordering::Acquire))
    }

    /// Admits one call if the breaker admits every call. This usual case reads no clock.
    #[inline]
    pub(crate) fn admit_closed(&self, repeated: bool) -> Option<Admitted> {
        let word = self.load();
        match word.state() {
            BreakerState::Closed | BreakerState::ForcedClosed => {
                Some(Admitted { generation: word.generation(), probe: false, repeated })
            }
            BreakerState::Open
            | BreakerState::HalfOpen
            | BreakerState::Ramping
            | BreakerState::ForcedOpen => None,
        }
    }

    /// Decides whether one call is admitted.
    pub(crate) fn admit(
        &self,
        repeated: bool,
        now: u64,
        config: &BreakerConfig,
        random: &Random,
    ) -> (Result<Admitted, Rejected>, Option<Transition>) {
        let word = self.load();
        match word.state() {
            BreakerState::Closed | BreakerState::ForcedClosed => {
                (Ok(Admitted { generation: word.generation(), probe: false, repeated }), None)
            }
            BreakerState::ForcedOpen => {
                (Err(Rejected { state: BreakerState::ForcedOpen, open_for: Duration::ZERO }), None)
            }
            BreakerState::Open => {
                let left = word.millis().saturating_sub(millis(now));
                if left > 0 {
                    let open_for = Duration::from_millis(left);
                    return (Err(Rejected { state: BreakerState::Open, open_for }), None);
                }
                self.admit_slowly(repeated, now, config, random)
            }
            BreakerState::HalfOpen | BreakerState::Ramping => {
                self.admit_slowly(repeated, now, config, random)
            }
        }
    }

    #[cold]
    fn admit_slowly(
        &self,
        repeated: bool,
        now: u64,
        config: &BreakerConfig,
        random: &Random,
    ) -> (Result<Admitted, Rejected>, Option<Transition>) {
        let mut slow = lock(&self.slow);
        let mut word = self.load();
        let mut transition = None;
        match word.state() {
            BreakerState::Open if word.millis() <= millis(now) => {
                *slow = Slow { reopened: slow.reopened, trips: slow.trips, ..Slow::default() };
                transition = Some(self.change(word, BreakerState::HalfOpen, 0, "the wait is over".into()));
                word = self.load();
            }
            BreakerState::HalfOpen if !slow.has_place(repeated, config) && overdue(word, now, config) => {
                // The callers did not return these probes: they hold permits from `try_acquire`, or futures that are
                // not polled.
                let why = "no probe came back in twice its time".into();
                transition = Some(self.open(&mut slow, word, why, now, config, random));
                word = self.load();
            }
            BreakerState::Ramping if Self::ramp_left(word, now, config).is_zero() => {
                slow.reopened = 0;
                // The generation stays the same: calls admitted during the ramp still count.
                self.store(Word::new(BreakerState::Closed, word.generation(), 0));
                transition = Some(Transition {
                    from: BreakerState::Ramping,
                    to: BreakerState::Closed,
                    why: "the ramp is over".into(),
                });
                word = self.load();
            }
            _ => {}
        }
        let generation = word.generation();
        let reject = |open_for| Err(Rejected { state: word.state(), open_for });
        let admitted = match word.state() {
            BreakerState::Closed | BreakerState::ForcedClosed => {
                Ok(Admitted { generation, probe: false, repeated })
            }
            BreakerState::Open => reject(Duration::from_millis(word.millis().saturating_sub(millis(now)))),
            BreakerState::HalfOpen if slow.has_place(repeated, config) => {
                slow.probes_taken += 1;
                slow.repeat_in_flight |= repeated;
                self.store(Word::new(BreakerState::HalfOpen, generation, millis(now)));
                Ok(Admitted { generation, probe: true, repeated })
            }
            BreakerState::HalfOpen | BreakerState::ForcedOpen => reject(Duration::ZERO),
            BreakerState::Ramping => {
                let left = Self::ramp_left(word, now, config);
                slow.ramp_asked += 1;
                if ramp_admits(slow.ramp_asked, slow.ramp_admitted, left, config) {
                    slow.ramp_admitted += 1;
                    Ok(Admitted { generation, probe: false, repeated })
                } else {
                    reject(left)
                }
            }
        };
        (admitted, transition)
    }

    fn ramp_left(word: Word, now: u64, config: &BreakerConfig) -> Duration {
        config.ramp.saturating_sub(Duration::from_millis(millis(now).saturating_sub(word.millis())))
    }

    /// Counts one finished call and returns the change of state that it caused, if any.
    #[inline]
    pub(crate) fn record(
        &self,
        admitted: Admitted,
        ended: Ended,
        now: u64,
        config: &BreakerConfig,
        random: &Random,
    ) -> Option<Transition> {
        let word = self.load();
        if word.generation() != admitted.generation {
            return None;
        }
        if admitted.probe {
            return self.judge_probe(admitted, ended, now, config, random);
        }
        let Ended { verdict, is_slow, .. } = ended;
        let says_nothing = matches!(verdict, Verdict::Left | Verdict::Unsent) && !is_slow;
        if admitted.repeated || says_nothing {
            return None;
        }
        let failed = verdict == Verdict::Bad;
        let counts = Counts { a: 1, b: u64::from(failed), c: u64::from(is_slow) };
        self.window.add(now, counts);
        if failed {
            self.consecutive.fetch_add(1, Ordering::Relaxed);
        } else if verdict == Verdict::Good && self.consecutive.load(Ordering::Relaxed) != 0 {
            self.consecutive.store(0, Ordering::Relaxed);
        }
        if failed || is_slow { self.judge_window(admitted, now, config, random) } else { None }
    }

    /// Handles a bad or slow call. A good and quick call can only lower the rates, so it does not come here.
    #[cold]
    fn judge_window(
        &self,
        admitted: Admitted,
        now: u64,
        config: &BreakerConfig,
        random: &Random,
    ) -> Option<Transition> {
        let Counts { a: calls, b: failures, c: slow_calls } = self.window.sum(now);
        let consecutive = self.consecutive.load(Ordering::Relaxed);
        let window = config.window;
        let why = if calls < config.min_calls {
            if consecutive < config.consecutive_failures {
                return None;
            }
            format!("{consecutive} failures in a row >= {}", config.consecutive_failures)
        } else if u64::from(consecutive) >= config.min_calls {
            // `min_calls` failures in a row without one success are enough to judge. A peer that is gone opens the
            // breaker although ten seconds of successes are still in the window.
            format!("{consecutive} failures in a row >= {}", config.min_calls)
        } else if failures * 100 >= calls * config.failure_percent {
            format!("failures {failures} of {calls} in {window:?} >= {}%", config.failure_percent)
        } else if slow_calls * 100 >= calls * config.slow_percent {
            format!("slow calls {slow_calls} of {calls} in {window:?} >= {}%", config.slow_percent)
        } else {
            return None;
        };
        let mut slow = lock(&self.slow);
        let word = self.load();
        let tripping = match word.state() {
            BreakerState::Closed | BreakerState::Ramping => word.generation() == admitted.generation,
            BreakerState::Open
            | BreakerState::HalfOpen
            | BreakerState::ForcedOpen
            | BreakerState::ForcedClosed => false,
        };
        tripping.then(|| self.open(&mut slow, word, why.into(), now, config, random))
    }

    #[cold]
    fn judge_probe(
        &self,
        admitted: Admitted,
        ended: Ended,
        now: u64,
        config: &BreakerConfig,
        random: &Random,
    ) -> Option<Transition> {
        let mut slow = lock(&self.slow);
        let word = self.load();
        if word.generation() != admitted.generation || word.state() != BreakerState::HalfOpen {
            return None;
        }
        if admitted.repeated {
            slow.repeat_in_flight = false;
        }
        match ended.verdict {
            Verdict::Unsent => {
                slow.probes_taken -= 1;
                None
            }
            // A repeat may fail or be slow because of its own work, so that does not count. A repeat that succeeds
            // shows that the endpoint answers.
            Verdict::Bad if admitted.repeated => self.unanswered(&mut slow, word, ended, now, config, random),
            Verdict::Good if admitted.repeated && ended.is_slow => {
                self.unanswered(&mut slow, word, ended, now, config, random)
            }
            Verdict::Left => self.unanswered(&mut slow, word, ended, now, config, random),
            Verdict::Bad => Some(self.open(&mut slow, word, "a probe failed".into(), now, config, random)),
            Verdict::Good if ended.is_slow => {
                Some(self.open(&mut slow, word, "a probe was slow".into(), now, config, random))
            }
            Verdict::Good => {
                slow.probes_succeeded += 1;
                slow.unanswered = 0;
                if slow.probes_succeeded < config.probes {
                    return None;
                }
                self.forget(now);
                slow.ramp_asked = 0;
                slow.ramp_admitted = 0;
                let why = format!("{} of {} probes succeeded", slow.probes_succeeded, config.probes).into();
                let to = if config.ramp.is_zero() { BreakerState::Closed } else { BreakerState::Ramping };
                if to == BreakerState::Closed {
                    slow.reopened = 0;
                }
                Some(self.change(word, to, millis(now), why))
            }
        }
    }

    /// Returns the probe, so that the next caller can take it, and opens the breaker once such probes have waited too
    /// long without an answer.
    fn unanswered(
        &self,
        slow: &mut MutexGuard<'_, Slow>,
        word: Word,
        ended: Ended,
        now: u64,
        config: &BreakerConfig,
        random: &Random,
    ) -> Option<Transition> {
        let probe_timeout = nanos(config.probe_timeout);
        slow.probes_taken -= 1;
        slow.unanswered = slow.unanswered.saturating_add(ended.took.max(probe_timeout / 20));
        let most = probe_timeout.saturating_mul(config.probes.into());
        (slow.unanswered >= most).then(|| {
            let waited = Duration::from_nanos(slow.unanswered);
            let why =
                format!("probes without a verdict waited {waited:?} >= {:?}", Duration::from_nanos(most));
            self.open(slow, word, why.into(), now, config, random)
        })
    }

    fn open(
        &self,
        slow: &mut MutexGuard<'_, Slow>,
        word: Word,
        why: Cow<'static, str>,
        now: u64,
        config: &BreakerConfig,
        random: &Random,
    ) -> Transition {
        if word.state() == BreakerState::Ramping && Self::ramp_left(word, now, config).is_zero() {
            slow.reopened = 0;
        }
        let wait = open_wait(slow.reopened, config, random);
        slow.reopened = slow.reopened.saturating_add(1);
        slow.trips += 1;
        self.forget(now);
        let wait = u64::try_from(wait.as_nanos().div_ceil(1_000_000)).unwrap_or(MILLIS);
        let until = millis(now).saturating_add(wait).min(MILLIS);
        self.change(word, BreakerState::Open, until, why)
    }

    fn forget(&self, now: u64) {
        self.window.clear(now);
        self.consecutive.store(0, Ordering::Relaxed);
    }

    /// Carries out an operator's order.
    pub(crate) fn order(&self, order: Order, now: u64) -> Transition {
        let mut slow = lock(&self.slow);
        let word = self.load();
        let to = match order {
            Order::ForceOpen => BreakerState::ForcedOpen,
            Order::ForceClosed => BreakerState::ForcedClosed,
            Order::Reset => BreakerState::Closed,
        };
        self.forget(now);
        *slow = Slow { trips: slow.trips, ..Slow::default() };
        self.change(word, to, 0, "ordered by an operator".into())
    }

    /// Stores the state `to` in a new generation. The caller must hold the mutex.
    fn change(&self, word: Word, to: BreakerState, millis: u64, why: Cow<'static, str>) -> Transition {
        self.store(Word::new(to, word.generation() + 1, millis));
        Transition { from: word.state(), to, why }
    }

    fn store(&self, word: Word) {
        self.word.store(word.0, Ordering::Release);
    }

    /// The state that the next call would find. An open breaker whose wait is over would let a probe through, so it
    /// shows as half-open before that call comes.
    pub(crate) fn state(&self, now: u64, config: &BreakerConfig) -> BreakerState {
        let word = self.load();
        match word.state() {
            BreakerState::Open if word.millis() <= millis(now) => BreakerState::HalfOpen,
            BreakerState::Ramping if Self::ramp_left(word, now, config).is_zero() => BreakerState::Closed,
            state => state,
        }
    }

    pub(crate) fn view(&self, now: u64, config: &BreakerConfig) -> View {
        let state = self.state(now, config);
        let open_for = match state {
            BreakerState::Open => Duration::from_millis(self.load().millis().saturating_sub(millis(now))),
            _ => Duration::ZERO,
        };
        let Counts { a: calls, b: failures, c: slow } = self.window.sum(now);
        let consecutive_failures = self.consecutive.load(Ordering::Relaxed);
        let trips = lock(&self.slow).trips;
        View { state, open_for, calls, failures, slow, consecutive_failures, trips }
    }
}

/// Whether the last probe is overdue. Its own timer should have ended it after `probe_timeout`.
fn overdue(word: Word, now: u64, config: &BreakerConfig) -> bool {
    Duration::from_millis(millis(now).saturating_sub(word.millis())) > config.probe_timeout * 2
}

pub(crate) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

fn millis(nanos: u64) -> u64 {
    (nanos / 1_000_000).min(MILLIS)
}

#[cfg(test)]
mod tests;
