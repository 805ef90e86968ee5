//! Tests of the order service's SQL with a real PostgreSQL.
#![allow(clippy::unwrap_used)] // a test may panic

use journal::database::Limits;
use journal::{Database, Journal, idempotency, retention};
use local::Service;
use order_service::domain::{Status, TRANSITIONS};
use order_service::store::{
    Due, FoundOrders, PAGE_LINES, PAGES, Page, Store, StoredStatus, TAKE_ENDED_HOLDS, TAKE_UNRESOLVED,
};
use sqlx::{AssertSqlSafe, Connection, PgConnection, Row as _};
use testkit::TestDatabase;
use utoipa::OpenApi as _;
use uuid::Uuid;

/// A test database, and the service's store with connections in the serving role.
async fn stage() -> (TestDatabase, Store) {
    let test = TestDatabase::new(Service::Order, &order_service::startup::migrator()).await.unwrap();
    let database = Database::keyed(test.serving_url().parse().unwrap(), Limits::default());
    (test, Store::new(database, Journal::new("order", "test", "00")))
}

/// Inserts orders `from..=to` of `principal`, with `lines` lines each. `rest` has the status, and the offsets of `due_at`
/// and `expires_at` from now.
async fn orders(test: &TestDatabase, (from, to): (i32, i32), principal: &str, lines: i32, rest: [&str; 3]) {
    let mut admin = PgConnection::connect_with(&test.admin()).await.unwrap();
    let insert = "INSERT INTO orders (id, principal, customer_id, lines, status, reservation_id, hold_seconds,
            correlation_id, created_at, updated_at, version, head_hash, head_entry, head_clock,
            head_correlation_id, epoch, due_at, expires_at)
        SELECT lpad(to_hex(n), 32, '0')::uuid, $3, 'c', l.lines, $5, gen_random_uuid(), 900, 'c', now(), now(), 1,
            decode(repeat('00', 32), 'hex'), gen_random_uuid(), repeat('0', 16), 'c', 1,
            now() + $6::interval, now() + $7::interval
        FROM generate_series($1, $2) n, (SELECT jsonb_agg(jsonb_build_object('sku', 's' || i, 'quantity', 1)) AS lines
            FROM generate_series(1, $4) i) l";
    let [status, due_in, expires_in] = rest;
    let given = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    sqlx::query(insert)
        .bind(from)
        .bind(to)
        .bind(principal)
        .bind(lines)
        .bind(status)
        .bind(given(due_in))
        .bind(given(expires_in))
        .execute(&mut admin)
        .await
        .unwrap();
}

async fn list(store: &Store, page: Page) -> FoundOrders {
    store.list(None, &page).await.unwrap()
}

#[tokio::test]
async fn a_page_of_large_orders_ends_before_it_fills_the_memory() {
    let (test, store) = stage().await;
    orders(&test, (1, 10), "shop", 1_000, ["confirmed", "", ""]).await;
    let mut page = Page { principal: Some("shop".to_owned()), limit: 500, ..Page::default() };
    let mut seen = Vec::new();
    loop {
        let FoundOrders { orders: found, next, .. } = list(&store, page.clone()).await;
        let lines: usize = found.iter().map(|order| order.lines.len()).sum();
        assert!(i64::try_from(lines).unwrap() <= PAGE_LINES, "{lines} lines in one page");
        assert!(!found.is_empty() || next.is_none(), "a page with a next page has at least one order");
        seen.extend(found.into_iter().map(|order| order.id.as_u128()));
        match next {
            Some(next) => page.after = Some(next),
            None => break,
        }
    }
    assert_eq!(seen, (1..=10).collect::<Vec<_>>(), "each order once, oldest first");
}

/// SET clauses that make a row unreadable for this release, one for each kind of fault.
const FAULTS: [&str; 6] = [
    "lines = 'null'",
    "lines = '[{\"sku\": 1}]'",
    "head_hash = ''",
    "head_clock = 'noon'",
    "created_at = 'infinity'",
    "updated_at = '-infinity'",
];

/// Makes one row unreadable.
async fn spoil(test: &TestDatabase, id: i32, set: &str) {
    let mut admin = PgConnection::connect_with(&test.admin()).await.unwrap();
    let update = format!("UPDATE orders SET {set} WHERE id = lpad(to_hex({id}), 32, '0')::uuid");
    sqlx::query(AssertSqlSafe(update)).execute(&mut admin).await.unwrap();
}

#[tokio::test]
async fn orders_that_cannot_be_read_do_not_keep_the_sweep_from_the_others() {
    let (test, store) = stage().await;
    // They have been due for longer than the others, so the sweep takes them first.
    orders(&test, (1, 6), "shop", 1, ["reserving", "-2 hours", ""]).await;
    orders(&test, (7, 300), "shop", 1, ["splitting", "-1 hour", ""]).await;
    orders(&test, (301, 303), "shop", 1, ["reserving", "-1 second", ""]).await;
    orders(&test, (401, 406), "shop", 1, ["reserved", "", "-2 hours"]).await;
    orders(&test, (407, 409), "shop", 1, ["reserved", "", "-1 second"]).await;
    for (n, fault) in (0..).zip(FAULTS) {
        spoil(&test, 1 + n, fault).await;
        spoil(&test, 401 + n, fault).await;
    }
    let take = async |due: Due| {
        let (orders, unreadable) = store.claim_due(due, 6).await.unwrap();
        let mut ids: Vec<_> = orders.iter().map(|order| order.id.as_u128()).collect();
        ids.sort_unstable();
        (ids, unreadable.len())
    };
    for (due, good) in [(Due::Unresolved, [301, 302, 303]), (Due::EndedHold, [407, 408, 409])] {
        assert_eq!(take(due).await, (vec![], FAULTS.len()), "every row of the batch is unreadable");
        assert_eq!(take(due).await, (good.to_vec(), 0), "the next batch has no unreadable row");
    }
    let touched: i64 =
        sqlx::query_scalar("SELECT count(*) FROM orders WHERE status = 'splitting' AND epoch > 1")
            .fetch_one(&mut PgConnection::connect_with(&test.admin()).await.unwrap())
            .await
            .unwrap();
    assert_eq!(touched, 0, "orders of a release that knows the status are not taken");

    let unresolved = store.unresolved(None, 10.0, 5).await.unwrap();
    assert_eq!(unresolved.by_status.iter().find(|u| u.status == "splitting").unwrap().count, 294);
    let unknown = unresolved.of_unknown_status;
    assert!(unknown.len() == 5 && unknown.iter().all(|(_, status)| status == "splitting"));
}

#[tokio::test]
async fn reserved_orders_that_never_expire_do_not_keep_newer_ones_from_expiring() {
    let (test, store) = stage().await;
    // Asked about before, and put back: as many as a sweep takes at once.
    orders(&test, (1, 6), "shop", 1, ["reserved", "-1 second", "-2 hours"]).await;
    orders(&test, (7, 9), "shop", 1, ["reserved", "", "-1 minute"]).await;
    let (orders, _) = store.claim_due(Due::EndedHold, 6).await.unwrap();
    let ids: Vec<_> = orders.iter().map(|order| order.id.as_u128()).collect();
    assert!(orders.len() == 6 && [7, 8, 9].iter().all(|id| ids.contains(id)), "{ids:?}");
}

#[tokio::test]
async fn a_list_names_the_orders_that_cannot_be_read_and_shows_a_status_as_it_is() {
    let (test, store) = stage().await;
    orders(&test, (1, 9), "shop", 1, ["reserving", "1 minute", ""]).await;
    for (n, fault) in (0..).zip(FAULTS) {
        spoil(&test, 1 + n, fault).await;
    }
    spoil(&test, 7, "status = 'splitting'").await;
    for principal in [None, Some("shop".to_owned())] {
        let mut page = Page { principal, limit: 4, ..Page::default() };
        let (mut shown, mut unreadable) = (Vec::new(), Vec::new());
        loop {
            let found = list(&store, page.clone()).await;
            shown.extend(found.orders.into_iter().map(|order| (order.id.as_u128(), order.status)));
            unreadable.extend(found.unreadable.into_iter().map(|fault| fault.id.as_u128()));
            match found.next {
                Some(next) => page.after = Some(next),
                None => break,
            }
        }
        let reserving = StoredStatus::Known(Status::Reserving);
        let splitting = StoredStatus::Unknown("splitting".to_owned());
        assert_eq!(shown, [(7, splitting), (8, reserving.clone()), (9, reserving)]);
        assert_eq!(unreadable, [1, 2, 3, 4, 5, 6]);
    }
}

/// The query plan of `statement` under the service's settings, for parameters of these `types`.
async fn plan(store: &Store, statement: &str, types: &str) -> String {
    let nulls = vec!["NULL"; types.split(", ").count()].join(", ");
    let explain = [
        format!("PREPARE explained ({types}) AS {statement}"),
        format!("EXPLAIN EXECUTE explained ({nulls})"),
        "DEALLOCATE explained".to_owned(),
    ];
    let lines = store
        .database()
        .read(None, explain, |connection, [prepare, explain, deallocate]| {
            Box::pin(async move {
                sqlx::raw_sql(AssertSqlSafe(prepare.clone())).execute(&mut *connection).await?;
                let explain =
                    sqlx::raw_sql(AssertSqlSafe(explain.clone())).fetch_all(&mut *connection).await?;
                sqlx::raw_sql(AssertSqlSafe(deallocate.clone())).execute(connection).await?;
                explain.iter().map(|row| row.try_get::<String, _>(0)).collect::<Result<Vec<_>, _>>()
            })
        })
        .await;
    lines.unwrap().join("\n")
}

/// Orders of two principals: `large` has many at rest, a few reserved and fewer unresolved; `small` has three.
async fn shops() -> (TestDatabase, Store) {
    let (test, store) = stage().await;
    orders(&test, (1, 10_000), "large", 1, ["confirmed", "", ""]).await;
    orders(&test, (10_001, 10_200), "large", 1, ["reserved", "", "10 minutes"]).await;
    orders(&test, (10_201, 10_220), "large", 1, ["reserve_unknown", "1 minute", ""]).await;
    orders(&test, (10_221, 10_223), "small", 1, ["confirmed", "", ""]).await;
    let mut admin = PgConnection::connect_with(&test.admin()).await.unwrap();
    sqlx::query("ANALYZE orders").execute(&mut admin).await.unwrap();
    (test, store)
}

#[tokio::test]
async fn a_list_reads_only_the_rows_of_its_page_by_an_index() {
    let (_test, store) = shops().await;
    for ((name, statement), index) in PAGES.into_iter().zip([
        "Index Cond: (id > $1)",
        "Index Cond: ((ROW(principal, id) > ROW($6, $1)) AND (principal <= $6))",
        "Index Scan using orders_due",
    ]) {
        let plan = plan(&store, statement, "uuid, text, text, bigint, bigint, text").await;
        assert!(plan.contains(index) && !plan.contains("Seq Scan"), "{name}:\n{plan}");
    }
    let ids =
        |found: FoundOrders| -> Vec<u128> { found.orders.iter().map(|order| order.id.as_u128()).collect() };
    let page = Page { limit: 2, ..Page::default() };
    assert_eq!(ids(list(&store, page.clone()).await), [1, 2]);
    let small = Page { principal: Some("small".to_owned()), ..page.clone() };
    assert_eq!(ids(list(&store, small.clone()).await), [10_221, 10_222]);
    let on = Page { after: Some(Uuid::from_u128(10_222)), ..small.clone() };
    assert_eq!(ids(list(&store, on).await), [10_223]);
    let unknown = Page { status: Some(Status::ReserveUnknown), ..page };
    assert_eq!(ids(list(&store, unknown.clone()).await), [10_201, 10_202]);
    let not_its_own = Page { principal: small.principal, ..unknown };
    assert_eq!(ids(list(&store, not_its_own).await), [0; 0]);
}

#[tokio::test]
async fn a_sweep_reads_only_due_rows_by_an_index() {
    let (_test, store) = shops().await;
    for (statement, types, index) in [
        (TAKE_UNRESOLVED, "bigint, bigint, text[], integer, boolean", "Index Cond: (due_at <= now())"),
        (TAKE_ENDED_HOLDS, "bigint, bigint", "Index Cond: (expires_at <= now())"),
    ] {
        let plan = plan(&store, statement, types).await;
        assert!(plan.contains(index), "{plan}");
    }
}

#[tokio::test]
async fn keys_are_deleted_a_week_after_their_reply_unless_the_order_can_still_move() {
    let (test, store) = stage().await;
    let mut admin = PgConnection::connect_with(&test.admin()).await.unwrap();
    // One order of each status, reached by a legal move, with an old key, a young key and a key without a reply.
    let insert = "WITH aggregate AS (SELECT gen_random_uuid() AS id), moves AS (
            INSERT INTO journal (id, aggregate_kind, aggregate_id, version, from_state, to_state, correlation_id, body,
                hash)
            SELECT gen_random_uuid(), 'order', aggregate.id, version, from_state, to_state, 'c', '',
                decode(repeat('00', 32), 'hex')
            FROM aggregate, (VALUES (1, 'none', 'reserving'), (2, $1, $2)) move (version, from_state, to_state))
        INSERT INTO idempotency (principal, key_hash, fingerprint, command, aggregate_id, completed_at, status, body)
        SELECT 'shop', sha256(convert_to($2 || coalesce(age, ''), 'UTF8')), '', $2, aggregate.id, now() - age::interval, status, body
        FROM aggregate, (VALUES ('169 hours', 201, ''::bytea), ('167 hours', 201, ''), (NULL, NULL, NULL))
            reply (age, status, body)";
    for status in Status::ALL {
        let (from, to) =
            TRANSITIONS.into_iter().find(|(_, to)| *to == journal::State::as_str(status)).unwrap();
        let insert = sqlx::query(insert).bind(from).bind(to);
        insert.execute(&mut admin).await.unwrap();
    }
    let terminal = Status::ALL.into_iter().filter(|status| status.is_terminal()).count();
    assert_eq!(
        usize::try_from(retention::delete_expired(store.database()).await.unwrap()).unwrap(),
        terminal
    );
    assert_eq!(retention::delete_expired(store.database()).await.unwrap(), 0);
    let left: i64 =
        sqlx::query_scalar("SELECT count(*) FROM idempotency").fetch_one(&mut admin).await.unwrap();
    assert_eq!(usize::try_from(left).unwrap(), 3 * Status::ALL.len() - terminal);

    let young = "INSERT INTO idempotency (principal, key_hash, fingerprint, command, aggregate_id, completed_at, status,
            body)
        SELECT 'shop', sha256(n::text::bytea), '', 'place', gen_random_uuid(), now(), 201, ''
        FROM generate_series(1, 10000) n";
    sqlx::query(young).execute(&mut admin).await.unwrap();
    sqlx::query("ANALYZE idempotency").execute(&mut admin).await.unwrap();
    for (statement, types, index) in [
        (retention::FIND_EXPIRED, "integer, text, bytea, text, bigint", "idempotency_by_completion"),
        (idempotency::DELETE, "integer, bytea[], text[]", "idempotency_pkey"),
    ] {
        let plan = plan(&store, statement, types).await;
        assert!(plan.contains(&format!("Index Scan using {index}")), "{plan}");
    }
}

#[test]
fn the_openapi_description_says_how_long_a_key_is_kept() {
    let description = order_service::http::Description::openapi().info.description.unwrap();
    assert!(description.contains(&format!("for {} days", idempotency::RETENTION_DAYS)), "{description}");
}
