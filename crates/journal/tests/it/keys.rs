//! Idempotency keys: the crate's own table, claims and replies, and deletion at the end of the retention.

use journal::database::Limits;
use journal::idempotency::{self, Claim, Claimed, KeyHash, StoredReply, claim_or_find, complete};
use journal::retention::delete_expired;
use sqlx::{Connection, PgConnection};
use testkit::TestDatabase;
use uuid::Uuid;

use crate::support::{lamps, serving};

/// 2,500 keys of which each 10th cannot be deleted, so that no batch of 1,000 is free of them.
const KEYS: &str = "
    INSERT INTO idempotency (principal, key_hash, fingerprint, command, aggregate_id, completed_at, status, body)
    SELECT 'test', sha256(n::text::bytea), sha256('request'), CASE WHEN n % 10 = 0 THEN 'kept' ELSE 'switch' END,
        gen_random_uuid(), now() - interval '8 days', 200, ''
    FROM generate_series(1, 2500) n;
    CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF OLD.command = 'kept' THEN RAISE EXCEPTION 'this key is kept'; END IF;
        RETURN OLD;
    END $$;
    CREATE TRIGGER keep BEFORE DELETE ON idempotency FOR EACH ROW EXECUTE FUNCTION keep()";

/// Columns, constraints and indexes of the table `idempotency` of a schema.
const DESCRIPTION: &str = "SELECT string_agg(line, E'\\n' ORDER BY line) FROM (
    SELECT concat_ws(' ', column_name, data_type, is_nullable, column_default)
    FROM information_schema.columns WHERE table_schema = $1 AND table_name = 'idempotency'
    UNION ALL
    SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conrelid = ($1 || '.idempotency')::regclass
    UNION ALL
    SELECT replace(indexdef, $1 || '.', '') FROM pg_indexes WHERE schemaname = $1 AND tablename = 'idempotency'
    ) description (line)";

async fn admin(test: &TestDatabase) -> PgConnection {
    PgConnection::connect_with(&test.admin()).await.unwrap()
}

/// A session whose table of keys is the crate's own, without a journal.
async fn alone(test: &TestDatabase) -> PgConnection {
    let mut connection = admin(test).await;
    sqlx::raw_sql("CREATE SCHEMA IF NOT EXISTS alone; SET search_path = alone")
        .execute(&mut connection)
        .await
        .unwrap();
    idempotency::migrate(&mut connection).await.unwrap();
    connection
}

fn claim_of(key: &str, request: &str) -> Claim {
    Claim {
        principal: "test".into(),
        key_hash: KeyHash::of(key),
        fingerprint: idempotency::FingerprintHasher::new("test").part(request).finish(),
        command: "pay",
        aggregate_id: Uuid::nil(),
    }
}

#[tokio::test]
async fn the_table_of_keys_is_the_same_with_and_without_the_journal() {
    let test = lamps().await;
    let mut connection = alone(&test).await;
    let mut tables = Vec::new();
    for schema in ["alone", "public"] {
        let described = sqlx::query_scalar::<_, String>(DESCRIPTION).bind(schema);
        tables.push(described.fetch_one(&mut connection).await.unwrap());
    }
    assert_eq!(tables[0], tables[1]);
    assert!(tables[0].contains("idempotency_by_completion"), "{}", tables[0]);
}

#[tokio::test]
async fn a_key_is_claimed_once_and_its_reply_is_replayed_without_a_journal() {
    let test = lamps().await;
    let (mut first, mut second) = (alone(&test).await, alone(&test).await);
    let claim = claim_of("key", "990 cents");
    assert!(matches!(claim_or_find(&mut first, &claim).await.unwrap(), Claimed::New));
    assert!(matches!(claim_or_find(&mut second, &claim).await.unwrap(), Claimed::InFlight));
    let reply = StoredReply::json(201, "{}");
    complete(&mut first, &claim, &reply).await.unwrap();
    complete(&mut first, &claim, &StoredReply::json(500, "later")).await.unwrap();
    let Claimed::Replay(replayed) = claim_or_find(&mut second, &claim).await.unwrap() else {
        panic!("the reply is final");
    };
    assert_eq!(replayed, reply);
    let other = claim_of("key", "991 cents");
    assert!(matches!(claim_or_find(&mut second, &other).await.unwrap(), Claimed::Reused));
}

#[tokio::test]
async fn a_claim_waits_for_the_transaction_that_has_its_key() {
    let test = lamps().await;
    let (mut first, mut second) = (alone(&test).await, alone(&test).await);
    let claim = claim_of("key", "990 cents");
    let mut transaction = first.begin().await.unwrap();
    assert!(matches!(claim_or_find(&mut transaction, &claim).await.unwrap(), Claimed::New));
    let repeat = claim_or_find(&mut second, &claim);
    let commit = async {
        complete(&mut transaction, &claim, &StoredReply::json(201, "{}")).await.unwrap();
        transaction.commit().await.unwrap();
    };
    let (repeat, ()) = tokio::join!(repeat, commit);
    assert!(matches!(repeat.unwrap(), Claimed::Replay(_)));
}

#[tokio::test]
async fn keys_that_cannot_be_deleted_do_not_stop_the_deletion_of_the_others() {
    let test = lamps().await;
    sqlx::raw_sql(KEYS).execute(&mut admin(&test).await).await.unwrap();
    let deleted = delete_expired(&serving(&test, Limits::default())).await.unwrap();
    assert_eq!(deleted, 2_250);
}

#[tokio::test]
async fn a_database_that_refuses_every_deletion_is_an_error() {
    let test = lamps().await;
    let mut admin = admin(&test).await;
    sqlx::raw_sql(KEYS).execute(&mut admin).await.unwrap();
    sqlx::query("REVOKE DELETE ON idempotency FROM mainstay_order").execute(&mut admin).await.unwrap();
    delete_expired(&serving(&test, Limits::default())).await.unwrap_err();
}
