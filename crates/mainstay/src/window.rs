//! A sliding window: three counters over the last `N` slots of time, in `N` words of memory.
//!
//! Each slot is one packed atomic, `turn | a | b | c` of 16 bits each, where `turn` is the number of the lap of the
//! ring that the counts belong to. Counting is one load and one addition. The first event in a slot whose turn has
//! passed replaces the slot. So the cost of a call and the memory do not depend on the call rate, and no timer is
//! needed for old counts. After ten thousand successes the window still holds only the last ten seconds.
//!
//! * A slot holds up to [`Window::MOST`] of each count. Beyond that it stops counting, which keeps the ratio of the
//!   events that came first. With the breaker's slots of 100 ms that is 640,000 calls a second to one endpoint.
//! * A `turn` repeats after 65,536 laps (a week, with a window of ten seconds). Only a slot that was not used for
//!   that long, give or take [`LATE`] laps, could be misread.

use std::time::Duration;

use crate::sync::{AtomicU64, Ordering};

const FIELD: u64 = 0xffff;
/// Laps that a thread may be behind when it was delayed between reading the clock and counting. Its event then counts
/// nothing.
const LATE: u64 = 8;
const TURN_SHIFT: u32 = 48;

/// Counts to add to a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Counts {
    pub(crate) a: u64,
    pub(crate) b: u64,
    pub(crate) c: u64,
}

impl Counts {
    const fn packed(self) -> u64 {
        (self.a << 32) | (self.b << 16) | self.c
    }

    const fn unpacked(word: u64) -> Self {
        Self { a: (word >> 32) & FIELD, b: (word >> 16) & FIELD, c: word & FIELD }
    }
}

/// `N` slots that together cover one span of time.
#[derive(Debug)]
pub(crate) struct Window<const N: usize> {
    slots: [AtomicU64; N],
    slot_nanos: u64,
}

impl<const N: usize> Window<N> {
    /// The count at which a slot stops counting. The distance to the end of the field leaves room for threads that
    /// have checked the count and not yet added.
    pub(crate) const MOST: u64 = FIELD - 1_024;

    /// An empty window over `span`. Its owner keeps a base time, and all times here are nanoseconds since that base.
    pub(crate) fn new(span: Duration) -> Self {
        let nanos = u64::try_from(span.as_nanos()).unwrap_or(u64::MAX) / N as u64;
        Self { slots: std::array::from_fn(|_| AtomicU64::new(0)), slot_nanos: nanos.max(1) }
    }

    fn turn(slot: u64) -> u64 {
        (slot / N as u64) & FIELD
    }

    fn at(&self, slot: u64) -> &AtomicU64 {
        // The remainder is below N, which is a usize.
        #[allow(clippy::cast_possible_truncation)]
        &self.slots[(slot % N as u64) as usize]
    }

    /// Counts one event at `now`. `counts` may hold only zeros and ones.
    #[inline]
    pub(crate) fn add(&self, now: u64, counts: Counts) {
        let slot = now / self.slot_nanos;
        let (cell, turn) = (self.at(slot), Self::turn(slot));
        let mut word = cell.load(Ordering::Relaxed);
        loop {
            let behind = (turn.wrapping_sub(word >> TURN_SHIFT)) & FIELD;
            if behind == 0 {
                let held = Counts::unpacked(word);
                if held.a.max(held.b).max(held.c) < Self::MOST {
                    cell.fetch_add(counts.packed(), Ordering::Relaxed);
                }
                return;
            }
            if behind > FIELD - LATE {
                // Another thread with a later clock has turned the slot already, so this event has left the window.
                return;
            }
            let fresh = (turn << TURN_SHIFT) | counts.packed();
            match cell.compare_exchange_weak(word, fresh, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return,
                Err(current) => word = current,
            }
        }
    }

    /// The counts of the last `N` slots, up to the slot of `now`.
    pub(crate) fn sum(&self, now: u64) -> Counts {
        let last = now / self.slot_nanos;
        let first = (last + 1).saturating_sub(N as u64);
        let mut total = Counts::default();
        for slot in first..=last {
            let word = self.at(slot).load(Ordering::Relaxed);
            if word >> TURN_SHIFT == Self::turn(slot) {
                let held = Counts::unpacked(word);
                total.a += held.a;
                total.b += held.b;
                total.c += held.c;
            }
        }
        total
    }

    /// Empties the window. A call that is being counted at the same moment may remain.
    pub(crate) fn clear(&self, now: u64) {
        let last = now / self.slot_nanos;
        for slot in (last + 1).saturating_sub(N as u64)..=last {
            // Keep each slot's lap number; zero could be mistaken for a later lap.
            self.at(slot).store(Self::turn(slot) << TURN_SHIFT, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests;
