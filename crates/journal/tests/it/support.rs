//! A lamp that is switched on and off: the smallest aggregate there can be.

use journal::{
    Cause, Database, Decided, Draft, Head, Journal, Keys, Rule, Sealed, State, Step, Verdict, append,
};
use local::Service;
use serde::{Deserialize, Serialize};
use sqlx::PgConnection;
use sqlx::postgres::PgConnectOptions;
use testkit::TestDatabase;
use testkit::proxy::TcpProxy;
use uuid::Uuid;

pub(crate) const LAMP: [(i64, &str, &str); 2] = [
    (
        1001,
        "lamp",
        "INSERT INTO transitions VALUES ('lamp', 'none', 'on'), ('lamp', 'on', 'off'), ('lamp', 'off', 'on');
     CREATE TABLE lamps (id uuid PRIMARY KEY, version bigint NOT NULL);
     GRANT SELECT ON transitions TO mainstay_order;
     GRANT SELECT, INSERT ON journal TO mainstay_order;
     GRANT SELECT, INSERT, UPDATE, DELETE ON idempotency TO mainstay_order;
     GRANT SELECT, INSERT, UPDATE ON lamps TO mainstay_order;",
    ),
    (1002, "entries", include_str!("../../../../migrations/order/1002_entries.sql")),
];

/// A database with lamps in it.
pub(crate) async fn lamps() -> TestDatabase {
    TestDatabase::new(Service::Order, &journal::migrations::migrator(&LAMP)).await.unwrap()
}

/// The serving role's database, through a proxy.
pub(crate) async fn behind_proxy(
    test: &TestDatabase,
    limits: journal::database::Limits,
) -> (journal::Database, TcpProxy) {
    let options: PgConnectOptions = test.serving_url().parse().unwrap();
    let upstream = format!("{}:{}", options.get_host(), options.get_port()).parse().unwrap();
    let proxy = TcpProxy::start(upstream).await.unwrap();
    let options = options.host("127.0.0.1").port(proxy.address().port());
    (journal::Database::keyed(options, limits), proxy)
}

/// The serving role's database.
pub(crate) fn serving(test: &TestDatabase, limits: journal::database::Limits) -> Database {
    Database::keyed(test.serving_url().parse().unwrap(), limits)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Lamp {
    On,
    Off,
}

impl State for Lamp {
    const KIND: &'static str = "lamp";

    fn as_str(self) -> &'static str {
        match self {
            Self::On => "on",
            Self::Off => "off",
        }
    }
}

#[derive(Debug, Serialize, Deserialize)]
struct Switch {
    to: Lamp,
}

impl Rule for Switch {
    const NAME: &'static str = "lamp.switch@1";
    type State = Lamp;

    fn decide(&self) -> Verdict<Lamp> {
        Verdict { to: self.to, alternatives: Vec::new() }
    }
}

/// The next entry of a lamp.
pub(crate) fn switch(journal: &Journal, id: Uuid, head: Option<Head>, to: Lamp) -> Sealed {
    let rule = Switch { to };
    let (_, decided) = Decided::by(&rule);
    let cause =
        Cause { principal: "test".into(), key_hash: None, correlation_id: "lamp".into(), trace_id: None };
    journal.seal(Draft {
        aggregate_id: id,
        head,
        command: "switch",
        cause: &cause,
        causation_id: None,
        decided,
        attempt: 1,
        evidence: (),
        payload_hash: None,
    })
}

/// One whole transaction: the row and its entry.
pub(crate) async fn light(database: &Database, id: Uuid) -> Result<(), journal::DatabaseError> {
    let sealed = switch(&Journal::new("test", "r", "c"), id, None, Lamp::On);
    database
        .transaction(None, (id, &sealed), |connection, &(id, sealed)| {
            Box::pin(async move {
                insert(connection, id).await?;
                append(connection, &[sealed], Keys::Leave).await?;
                Ok(Step::Commit(()))
            })
        })
        .await
}

/// The row alone.
pub(crate) async fn insert(connection: &mut PgConnection, id: Uuid) -> Result<(), sqlx::Error> {
    sqlx::query("INSERT INTO lamps VALUES ($1, 1)").bind(id).execute(connection).await?;
    Ok(())
}
