//! An ordinary day: the stack as it comes up, and orders over the published ports.

use local::Service;
use testkit::Client;

use crate::House;
use crate::checked::sound;
use crate::shop::Wish;
use crate::tunnel::Tunnel;

pub(crate) async fn each_schema_was_migrated_by_its_owner_before_its_service_started(house: &House) {
    let tunnel = Tunnel::open(&house.stack).await.unwrap();
    for service in Service::BOTH {
        let migration = house.stack.inspect(&format!("migrate-{service}")).await["State"].take();
        assert_eq!(
            (&migration["Status"], &migration["ExitCode"]),
            (&"exited".into(), &0.into()),
            "{service}"
        );
        let serving = house.stack.inspect(service.name()).await["State"].take();
        // Docker writes no trailing zeros, so that a text without its Z sorts as the time does.
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

pub(crate) async fn only_health_and_metrics_can_be_read_without_a_token(house: &House) {
    for (service, api) in [(Service::Order, "/v1/orders"), (Service::Inventory, "/v1/items")] {
        Client::new(&house.stack.url(service)).get(api).send().await.unwrap().expect(401);
        let ops = Client::new(&house.stack.ops_url(service));
        for path in ["/livez", "/readyz"] {
            ops.get(path).send().await.unwrap().expect(200);
        }
        let metrics = ops.get("/metrics").send().await.unwrap().expect(200);
        assert!(String::from_utf8_lossy(&metrics.body).contains("\nmainstay_"), "{metrics}");
        ops.get("/admin/v1/journal").send().await.unwrap().expect(401);
        let operator = ops.token(house.shop.operator_token());
        operator.get("/admin/v1/journal").send().await.unwrap().expect(200);
    }
}

pub(crate) async fn orders_are_placed_confirmed_and_cancelled(house: &House) {
    let mut ids = Vec::new();
    for (quantity, wish) in [(6, Wish::Confirm), (2, Wish::Cancel), (1, Wish::Leave)] {
        ids.push(house.shop.buy(quantity, wish).await);
    }
    for id in ids {
        house.shop.other().get(&format!("/v1/orders/{id}")).send().await.unwrap().expect(404);
    }
    sound(house).await;
}
