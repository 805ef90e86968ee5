//! State, generation and time packed into one word, so that they change together.

use super::BreakerState;

/// The current state in one word: 4 bits of state, 20 bits of generation, 40 bits of milliseconds.
///
/// The time is the end of the wait when open, the last probe's start when half-open, the beginning when ramping, and
/// unused otherwise. 40 bits last for 34 years.
///
/// The generation repeats after a million changes. At one change every half second that takes six days, which is
/// longer than any call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Word(pub(super) u64);

const GENERATION: u64 = 0xf_ffff;
pub(super) const MILLIS: u64 = 0xff_ffff_ffff;

impl Word {
    pub(super) const fn new(state: BreakerState, generation: u64, millis: u64) -> Self {
        Self(((state as u64) << 60) | ((generation & GENERATION) << 40) | (millis & MILLIS))
    }

    pub(super) const fn state(self) -> BreakerState {
        match self.0 >> 60 {
            0 => BreakerState::Closed,
            1 => BreakerState::Open,
            2 => BreakerState::HalfOpen,
            3 => BreakerState::Ramping,
            4 => BreakerState::ForcedOpen,
            // Only `new` creates words, from one of the six states.
            _ => BreakerState::ForcedClosed,
        }
    }

    pub(super) const fn generation(self) -> u64 {
        (self.0 >> 40) & GENERATION
    }

    pub(super) const fn millis(self) -> u64 {
        self.0 & MILLIS
    }
}
