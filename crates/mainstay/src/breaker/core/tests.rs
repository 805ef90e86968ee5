//! The state machine under random sequences of calls, results, waits and orders.

use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone)]
enum Step {
    /// A call asks for admission; `true` for a repeat, `false` for a first try.
    Ask(bool),
    /// The n-th outstanding call ends.
    End(usize, Verdict, bool),
    Wait(u64),
    Order(Order),
}

fn ended(verdict: Verdict, is_slow: bool) -> Ended {
    Ended { verdict, took: if is_slow { 500_000_000 } else { 5_000_000 }, is_slow }
}

fn step() -> impl Strategy<Value = Step> {
    let verdict = prop_oneof![1 => Just(Verdict::Good), 2 => Just(Verdict::Bad), 1 => Just(Verdict::Left), 1 => Just(Verdict::Unsent)];
    let order =
        prop_oneof![1 => Just(Order::ForceOpen), 1 => Just(Order::ForceClosed), 3 => Just(Order::Reset)];
    prop_oneof![
        30 => prop::bool::weighted(0.3).prop_map(Step::Ask),
        30 => (any::<usize>(), verdict, prop::bool::weighted(0.1)).prop_map(|(n, v, s)| Step::End(n, v, s)),
        10 => (0_u64..3_000).prop_map(Step::Wait),
        1 => order.prop_map(Step::Order),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn no_sequence_of_events_breaks_the_breaker(steps in prop::collection::vec(step(), 1..400)) {
        let (config, random) = (BreakerConfig::default(), Random::seeded(3));
        let (core, mut now) = (Core::new(&config), 0);
        let mut outstanding: Vec<Admitted> = Vec::new();
        for step in steps {
            let before = core.state(now, &config);
            match step {
                Step::Ask(repeated) => {
                    let (admitted, _) = core.admit(repeated, now, &config, &random);
                    match before {
                        BreakerState::Closed | BreakerState::ForcedClosed => prop_assert!(admitted.is_ok()),
                        BreakerState::Open | BreakerState::ForcedOpen => prop_assert!(admitted.is_err()),
                        BreakerState::HalfOpen | BreakerState::Ramping => {}
                    }
                    outstanding.extend(admitted.ok());
                }
                Step::End(n, verdict, slow) if !outstanding.is_empty() => {
                    let call = outstanding.swap_remove(n % outstanding.len());
                    let stale = call.generation != core.load().generation();
                    let change = core.record(call, ended(verdict, slow), now, &config, &random);
                    if call.repeated && verdict != Verdict::Good {
                        prop_assert_eq!(&change, &None, "a failed repeat must not change the state");
                    }
                    if stale {
                        prop_assert_eq!(&change, &None, "a late result must not change the state");
                        prop_assert_eq!(core.state(now, &config), before);
                    }
                    if before == BreakerState::ForcedClosed || before == BreakerState::ForcedOpen {
                        prop_assert_eq!(change, None, "an operator's order must stay in force");
                    }
                }
                Step::End(..) => {}
                Step::Wait(ms) => now += ms * 1_000_000,
                Step::Order(order) => {
                    core.order(order, now);
                }
            }
            let word = core.load();
            let probes = outstanding.iter().filter(|c| c.probe && c.generation == word.generation()).count();
            prop_assert!(probes <= config.probes as usize, "{probes} probes at once");
            let view = core.view(now, &config);
            prop_assert!(view.open_for <= config.open_max);
            prop_assert!(view.failures <= view.calls && view.slow <= view.calls);
        }
        // From every state the breaker closes again once the outstanding calls have ended and the peer is healthy.
        for call in outstanding.drain(..) {
            core.record(call, ended(Verdict::Left, false), now, &config, &random);
        }
        if matches!(core.state(now, &config), BreakerState::ForcedOpen | BreakerState::ForcedClosed) {
            core.order(Order::Reset, now);
        }
        for _ in 0..10 {
            now += u64::try_from(config.open_max.as_nanos()).unwrap();
            if let (Ok(call), _) = core.admit(false, now, &config, &random) {
                core.record(call, ended(Verdict::Good, false), now, &config, &random);
            }
        }
        prop_assert_eq!(core.state(now, &config), BreakerState::Closed);
    }

    #[test]
    fn the_wait_keeps_its_bounds(reopened: u32, seed: u64, min in 1_u64..5_000, more in 0_u64..600_000) {
        let open_min = Duration::from_millis(min);
        let open_max = Duration::from_millis(min + more);
        let config = BreakerConfig { open_min, open_max, ..BreakerConfig::default() };
        let wait = open_wait(reopened, &config, &Random::seeded(seed));
        prop_assert!(wait >= open_min && wait <= open_max, "{wait:?}");
        if reopened >= 32 {
            prop_assert!(wait >= open_max / 2, "equal jitter: at least half of the ceiling, {wait:?}");
        }
    }

    #[test]
    fn the_ramp_admits_its_share_and_no_more(asked in 1_u64..5_000, left_ms in 0_u64..500) {
        let config = BreakerConfig::default();
        let left = Duration::from_millis(left_ms);
        let mut admitted = 0;
        for n in 1..=asked {
            if ramp_admits(n, admitted, left, &config) {
                admitted += 1;
            }
        }
        let first = u64::from(config.probes).min(asked);
        let due = (asked - first) * (500 + 9 * (500 - left_ms)) / 5_000 + first;
        prop_assert!(admitted.abs_diff(due) <= 1, "{admitted} of {asked}, {due} due");
    }
}

#[test]
fn the_parts_of_the_word_do_not_overlap() {
    for (n, state) in BreakerState::ALL.into_iter().enumerate() {
        for (generation, millis) in [(0, 0), (1, MILLIS), (0xf_ffff, 1), (0x10_0000, 5)] {
            let word = Word::new(state, generation, millis);
            assert_eq!(word.state(), state, "{n}");
            assert_eq!(word.generation(), generation & 0xf_ffff);
            assert_eq!(word.millis(), millis);
        }
    }
}
