//! Tests without faults: the stack after its start, and orders over the published ports.

use local::Service;
use testkit::Client;

use crate::Fixture;
use crate::checked::check_history;
use crate::shop::Plan;
use crate::tunnel::Tunnel;

pub(crate) async fn each_schema_was_migrated_by_its_owner_before_its_service_started(fixture: &Fixture) {
    let tunnel = Tunnel::open(&fixture.stack).await.unwrap();
    for service in Service::BOTH {
        let migration = fixture.stack.inspect(&format!("migrate-{service}")).await["State"].take();
        assert_eq!(
            (&migration["Status"], &migration["ExitCode"]),
            (&"exited".into(), &0.into()),
            "{service}"
        );
        let serving = fixture.stack.inspect(service.name()).await["State"].take();
        // Docker writes times without trailing zeros. Without the final Z, their texts sort like the times.
        let time = |text: &serde_json::Value| text.as_str().unwrap().trim_end_matches('Z').to_owned();
        let (migrated, started) = (time(&migration["FinishedAt"]), time(&serving["StartedAt"]));
        assert!(migrated < started, "{service} was migrated at {migrated} and started at {started}");

        let mut connection = tunnel.connect(service).await.unwrap();
        let owners: Vec<String> =
            sqlx::query_scalar("SELECT DISTINCT tableowner::text FROM pg_tables WHERE schemaname = 'public'")
                .fetch_all(&mut connection)
                .await
                .unwrap();
        assert_eq!(owners, [format!("mainstay_{service}_owner")]);
        let serving = format!("mainstay_{service}");
        let creates: bool = sqlx::query_scalar("SELECT has_schema_privilege($1, 'public', 'CREATE')")
            .bind(&serving)
            .fetch_one(&mut connection)
            .await
            .unwrap();
        assert!(!creates, "{serving} can change its own schema");
    }
}

pub(crate) async fn only_health_and_metrics_can_be_read_without_a_token(fixture: &Fixture) {
    for (service, api) in [(Service::Order, "/v1/orders"), (Service::Inventory, "/v1/items")] {
        Client::new(&fixture.stack.url(service)).get(api).send().await.unwrap().expect(401);
        let ops = Client::new(&fixture.stack.ops_url(service));
        for path in ["/livez", "/readyz"] {
            ops.get(path).send().await.unwrap().expect(200);
        }
        let metrics = ops.get("/metrics").send().await.unwrap().expect(200);
        assert!(String::from_utf8_lossy(&metrics.body).contains("\nmainstay_"), "{metrics}");
        ops.get("/admin/v1/journal").send().await.unwrap().expect(401);
        let operator = ops.token(fixture.shop.operator_token());
        operator.get("/admin/v1/journal").send().await.unwrap().expect(200);
    }
}

pub(crate) async fn orders_are_placed_confirmed_and_cancelled(fixture: &Fixture) {
    let mut ids = Vec::new();
    for (quantity, plan) in [(6, Plan::Confirm), (2, Plan::Cancel), (1, Plan::KeepReserved)] {
        ids.push(fixture.shop.buy(quantity, plan).await);
    }
    for id in ids {
        fixture.shop.other().get(&format!("/v1/orders/{id}")).send().await.unwrap().expect(404);
    }
    check_history(fixture).await;
}
