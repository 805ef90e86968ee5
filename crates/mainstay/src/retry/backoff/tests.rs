use proptest::prelude::*;

use super::*;

fn millis(range: std::ops::Range<u64>) -> impl Strategy<Value = Duration> {
    range.prop_map(Duration::from_millis)
}

proptest! {
    #[test]
    fn no_wait_is_beyond_its_bounds(
        retry: u32, seed: u64, base in millis(0..60_000), more in millis(0..540_000),
        asked in prop::option::of(millis(0..86_400_000)),
        outcome in prop::sample::select(Outcome::ALL.as_slice()),
    ) {
        let config = RetryConfig { backoff_base: base, backoff_cap: base + more, ..RetryConfig::default() };
        let ceiling = ceiling(retry, &config);
        prop_assert!(ceiling <= config.backoff_cap && ceiling >= base.min(config.backoff_cap));
        let wait = wait(retry, outcome, asked, &config, &Random::seeded(seed));
        match (asked, outcome) {
            (Some(asked), _) => prop_assert!(wait >= asked && wait <= asked + ceiling),
            (None, Outcome::Throttled) => {
                prop_assert!(wait >= config.throttled_wait / 2 && wait <= config.throttled_wait);
            }
            (None, _) => prop_assert!(wait <= ceiling),
        }
    }
}

#[test]
fn the_ceiling_doubles_up_to_the_cap() {
    let config = RetryConfig::default();
    let ceilings: Vec<_> = (0..6).map(|retry| ceiling(retry, &config).as_millis()).collect();
    assert_eq!(ceilings, [25, 50, 100, 200, 250, 250]);
}
