//! Tests of clients that disconnect.

use std::time::Duration;

use local::Service;
use testkit::pair::TestPair;
use testkit::proxy::{Fault, When};

use crate::support::{RESOLVED, order, pair, sound, stock};

#[tokio::test]
async fn a_client_that_disconnects_at_any_moment_loses_nothing() {
    let pair = pair().await;
    pair.hop().script(
        When::every("POST /v1/reservations"),
        Fault::Delay { request: Duration::from_millis(5), reply: Duration::from_millis(5) },
    );
    for micros in (0..40).map(|n| n * 800) {
        let leaving = order(&pair, &[("A", 1)]).send();
        // The reply does not matter here: the services finish every order that they began.
        let _ = tokio::time::timeout(Duration::from_micros(micros), leaving).await;
    }
    pair.settle(RESOLVED).await;
    let placed = listed(&pair).await;
    let (on_hand, held) = stock(&pair, "A").await;
    assert_eq!((on_hand, held), (1_000, i64::try_from(placed.len()).unwrap()), "{placed:?}");
    assert!(placed.iter().all(|status| status == "reserved"), "{placed:?}");
    sound(&pair).await;
}

async fn listed(pair: &TestPair) -> Vec<String> {
    let page = pair.client().get("/v1/orders?limit=500").send().await.unwrap().expect(200).json();
    page["items"].as_array().unwrap().iter().map(|o| o["status"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn no_database_session_is_left_idle_in_a_transaction() {
    let pair = pair().await;
    for _ in 0..20 {
        let leaving = order(&pair, &[("A", 1)]).send();
        let _ = tokio::time::timeout(Duration::from_millis(3), leaving).await;
    }
    pair.settle(RESOLVED).await;
    for service in Service::BOTH {
        use sqlx::Connection;
        let mut admin = sqlx::PgConnection::connect_with(&pair.database(service).admin()).await.unwrap();
        let idle = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()
                    AND state LIKE 'idle in transaction%' AND state_change < now() - interval '1 second'";
        assert_eq!(sqlx::query_scalar::<_, i64>(idle).fetch_one(&mut admin).await.unwrap(), 0, "{service}");
    }
    sound(&pair).await;
}
