//! Wrong settings are refused when the stack is built, by the name of the setting.

use std::time::Duration;

use mainstay::breaker::BreakerConfig;
use mainstay::budget::{BudgetConfig, RetryBudget};
use mainstay::client::ClientConfig;
use mainstay::hedge::{HedgeConfig, HedgeLayer};
use mainstay::retry::RetryConfig;
use mainstay::throttle::ThrottleConfig;
use mainstay::total_deadline::TotalDeadlineLayer;
use tower::{Layer as _, ServiceExt as _};

use crate::support::{Do, Peer, config, get};

#[test]
fn a_wrong_setting_is_refused_by_name() {
    let ms = Duration::from_millis;
    let breaker = |breaker| ClientConfig { breaker, ..config() };
    let budget =
        |budget| ClientConfig { retry: RetryConfig { budget, ..RetryConfig::default() }, ..config() };
    let hedge = |hedge| ClientConfig { hedge: Some(hedge), ..config() };
    let wrong = [
        (ClientConfig { peer: "a b".into(), ..config() }, "peer"),
        (ClientConfig { total_timeout: Duration::ZERO, ..config() }, "total_timeout"),
        (ClientConfig { attempt_timeout: ms(2_001), ..config() }, "attempt_timeout"),
        (ClientConfig { least_attempt_time: ms(1_001), ..config() }, "least_attempt_time"),
        (ClientConfig { max_in_flight: 0, ..config() }, "max_in_flight"),
        (
            ClientConfig { retry: RetryConfig { max_attempts: 0, ..RetryConfig::default() }, ..config() },
            "retry.max_attempts",
        ),
        (budget(BudgetConfig { percent: 101, ..BudgetConfig::default() }), "budget.percent"),
        (budget(BudgetConfig { window: Duration::ZERO, ..BudgetConfig::default() }), "budget.window"),
        (breaker(BreakerConfig { probes: 0, ..BreakerConfig::default() }), "breaker.probes"),
        (
            breaker(BreakerConfig { failure_percent: 0, ..BreakerConfig::default() }),
            "breaker.failure_percent",
        ),
        (breaker(BreakerConfig { open_max: ms(1), ..BreakerConfig::default() }), "breaker.open_max"),
        (
            ClientConfig {
                throttle: ThrottleConfig { most_percent: 100, ..ThrottleConfig::default() },
                ..config()
            },
            "throttle.most_percent",
        ),
        (hedge(HedgeConfig { percentile: 100, ..HedgeConfig::default() }), "hedge.percentile"),
        (
            breaker(BreakerConfig { probe_timeout: Duration::MAX, ..BreakerConfig::default() }),
            "breaker.probe_timeout",
        ),
        // The attempt ends before the hedge could begin.
        (hedge(HedgeConfig { least_delay: ms(1_000), ..HedgeConfig::default() }), "hedge.least_delay"),
    ];
    for (config, field) in wrong {
        let error = mainstay::client::stack(config, Peer::always(Do::Reply(200))).unwrap_err();
        // Other problems may follow from it: no attempt fits into a total of zero.
        let problem = &error.problems[0];
        assert_eq!(problem.field, field);
        assert!(error.to_string().contains(field) && error.to_string().contains(problem.range), "{error}");
    }
}

#[test]
fn all_wrong_settings_are_reported_at_once_with_their_values() {
    let retry = RetryConfig { max_attempts: 11, ..RetryConfig::default() };
    let wrong = ClientConfig { retry, max_in_flight: 0, ..config() };
    let error = mainstay::client::stack(wrong, Peer::always(Do::Reply(200))).unwrap_err();
    assert_eq!(
        error.to_string(),
        "max_in_flight is 0, and must be 1 to 1,000,000; retry.max_attempts is 11, and must be 1 to 10"
    );
}

/// A duration that stands for "no limit" cannot be added to a clock: it is refused, or taken as a day.
#[tokio::test(start_paused = true)]
async fn a_layer_alone_accepts_no_setting_that_panics_later() {
    let budget = RetryBudget::new(&BudgetConfig::default()).unwrap();
    let config = HedgeConfig { least_delay: Duration::MAX, ..HedgeConfig::default() };
    let error = HedgeLayer::new("inventory", config, budget).unwrap_err();
    assert_eq!(error.problems[0].field, "hedge.least_delay");
    let layer = TotalDeadlineLayer::new("inventory", Duration::MAX, Duration::ZERO).least(Duration::MAX);
    let reply = layer.layer(Peer::always(Do::Reply(200))).oneshot(get()).await.unwrap();
    assert_eq!(reply.status(), 200, "the duration is taken as a day");
}
