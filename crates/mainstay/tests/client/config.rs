//! Wrong settings are refused when the stack is built, by the name of the setting.

use std::time::Duration;

use mainstay::breaker::BreakerConfig;
use mainstay::budget::{BudgetConfig, RetryBudget};

use mainstay::hedge::{HedgeConfig, HedgeLayer};
use mainstay::retry::RetryConfig;
use mainstay::throttle::ThrottleConfig;
use mainstay::total_deadline::TotalDeadlineLayer;
use tower::{Layer as _, ServiceExt as _};

use crate::support::{Do, Peer, config, get};

#[test]
fn a_wrong_setting_is_refused_by_name() {
    let ms = Duration::from_millis;
    let breaker = |breaker| config().breaker(breaker);
    let budget = |budget| config().retry(RetryConfig::default().budget(budget));
    let hedge = |hedge| config().hedge(Some(hedge));
    let wrong = [
        (config().peer("a b".into()), "peer"),
        (config().total_timeout(Duration::ZERO), "total_timeout"),
        (config().attempt_timeout(ms(2_001)), "attempt_timeout"),
        (config().least_attempt_time(ms(1_001)), "least_attempt_time"),
        (config().max_in_flight(0), "max_in_flight"),
        (config().retry(RetryConfig::default().max_attempts(0)), "retry.max_attempts"),
        (budget(BudgetConfig::default().percent(101)), "budget.percent"),
        (budget(BudgetConfig::default().window(Duration::ZERO)), "budget.window"),
        (breaker(BreakerConfig::default().probes(0)), "breaker.probes"),
        (breaker(BreakerConfig::default().failure_percent(0)), "breaker.failure_percent"),
        (breaker(BreakerConfig::default().open_max(ms(1))), "breaker.open_max"),
        (config().throttle(ThrottleConfig::default().most_percent(100)), "throttle.most_percent"),
        (hedge(HedgeConfig::default().percentile(100)), "hedge.percentile"),
        (breaker(BreakerConfig::default().probe_timeout(Duration::MAX)), "breaker.probe_timeout"),
        // The attempt ends before the hedge could begin.
        (hedge(HedgeConfig::default().least_delay(ms(1_000))), "hedge.least_delay"),
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
    let retry = RetryConfig::default().max_attempts(11);
    let wrong = config().retry(retry).max_in_flight(0);
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
    let config = HedgeConfig::default().least_delay(Duration::MAX);
    let error = HedgeLayer::new("inventory", config, budget).unwrap_err();
    assert_eq!(error.problems[0].field, "hedge.least_delay");
    let layer = TotalDeadlineLayer::new("inventory", Duration::MAX, Duration::ZERO).least(Duration::MAX);
    let reply = layer.layer(Peer::always(Do::Reply(200))).oneshot(get()).await.unwrap();
    assert_eq!(reply.status(), 200, "the duration is taken as a day");
}
