//! The ring compared with a complete list of events.

use proptest::prelude::*;

use super::*;

const SLOTS: usize = 10;
const SLOT: u64 = 100;

fn window() -> Window<SLOTS> {
    Window::new(Duration::from_nanos(SLOT * SLOTS as u64))
}

proptest! {
    #[test]
    fn the_sum_is_the_sum_of_the_last_slots(
        events in prop::collection::vec((0_u64..450, any::<bool>(), any::<bool>()), 1..400),
    ) {
        let (window, mut now, mut all) = (window(), 0, Vec::new());
        for (pause, b, c) in events {
            now += pause;
            let counts = Counts { a: 1, b: u64::from(b), c: u64::from(c) };
            window.add(now, counts);
            all.push((now / SLOT, counts));
            let from = (now / SLOT + 1).saturating_sub(SLOTS as u64);
            let live = all.iter().filter(|(slot, _)| *slot >= from);
            let expected = live.fold(Counts::default(), |sum, (_, n)| {
                Counts { a: sum.a + n.a, b: sum.b + n.b, c: sum.c + n.c }
            });
            prop_assert_eq!(window.sum(now), expected);
        }
    }

    /// Threads read the clock before they count, so events arrive slightly out of order.
    #[test]
    fn late_events_count_in_their_own_slot(lags in prop::collection::vec(0_u64..300, 1..100)) {
        let window = window();
        for (n, lag) in lags.iter().enumerate() {
            window.add((10_000 + n as u64).saturating_sub(*lag), Counts { a: 1, ..Counts::default() });
        }
        prop_assert_eq!(window.sum(10_000 + lags.len() as u64).a, lags.len() as u64);
    }
}

#[test]
fn a_full_slot_stops_counting_and_keeps_its_neighbours() {
    let window = window();
    for _ in 0..100_000 {
        window.add(5, Counts { a: 1, b: 1, c: 0 });
    }
    let most = Window::<SLOTS>::MOST;
    assert_eq!(window.sum(5), Counts { a: most, b: most, c: 0 });
    window.add(SLOT, Counts { a: 1, b: 0, c: 1 });
    assert_eq!(window.sum(SLOT), Counts { a: most + 1, b: most, c: 1 });
}

#[test]
fn an_event_older_than_the_window_is_not_counted_as_new() {
    let window = window();
    window.add(50 * SLOT, Counts { a: 1, ..Counts::default() });
    window.add(40 * SLOT, Counts { a: 1, ..Counts::default() });
    assert_eq!(window.sum(50 * SLOT).a, 1, "a thread that was delayed for a whole window");
}

#[test]
fn memory_does_not_depend_on_the_rate() {
    assert_eq!(size_of::<Window<100>>(), 101 * 8);
}

/// Turns are 16-bit numbers that repeat. The window must count at any age and after a pause of any length.
#[test]
fn a_window_that_was_cleared_or_left_alone_counts_on_at_any_age() {
    let one = Counts { a: 1, ..Counts::default() };
    for lap in [1, 100, 32_767, 32_768, 40_000, 65_520, 65_536, 98_304, 1_000_000] {
        let now = lap * SLOTS as u64 * SLOT;
        let cleared = window();
        cleared.add(now, one);
        cleared.clear(now);
        assert_eq!(cleared.sum(now).a, 0);
        for slot in 0..SLOTS as u64 {
            cleared.add(now + slot * SLOT, one);
        }
        assert_eq!(cleared.sum(now + (SLOTS as u64 - 1) * SLOT).a, SLOTS as u64, "cleared in lap {lap}");
        let rested = window();
        rested.add(0, one);
        rested.add(now, one);
        assert_eq!(rested.sum(now).a, if lap % 65_536 == 0 { 2 } else { 1 }, "after a pause of {lap} laps");
    }
}
