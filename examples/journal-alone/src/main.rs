//! A lamp that is switched on and off: two entries are appended, read from the feed and verified.
//!
//! ```sh
//! DATABASE_URL=postgres://localhost/lamps cargo run
//! ```

use journal::database::Limits;
use journal::entry::hash;
use journal::feed::{self, Cursor};
use journal::{
    Alternative, Cause, Database, Decided, Draft, Entry, Head, Journal, Keys, Rule, State, TxEnd, Verdict, append,
    hex, migrations,
};
use serde::{Deserialize, Serialize};
use sqlx::postgres::PgConnectOptions;
use sqlx::{Connection, PgConnection};
use uuid::Uuid;

/// Migrations of the service have numbers from 1001 on.
const LAMPS: [(i64, &str, &str); 1] = [(
    1001,
    "lamps",
    "INSERT INTO transitions VALUES ('lamp', 'none', 'on'), ('lamp', 'on', 'off'), ('lamp', 'off', 'on');
     CREATE TABLE lamps (id uuid PRIMARY KEY, state text NOT NULL, version bigint NOT NULL)",
)];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lamp {
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

/// Decides by the light that was measured.
#[derive(Debug, Serialize, Deserialize)]
struct Switch {
    lux: u32,
    dark_below: u32,
}

impl Rule for Switch {
    const NAME: &'static str = "lamp.switch@1";
    type State = Lamp;

    fn decide(&self) -> Verdict<Lamp> {
        let is_dark = self.lux < self.dark_below;
        let (to, other) = if is_dark { (Lamp::On, Lamp::Off) } else { (Lamp::Off, Lamp::On) };
        let why = format!("{} lux, and it is dark below {}", self.lux, self.dark_below);
        Verdict { to, alternatives: vec![Alternative::new(other, why)] }
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let options: PgConnectOptions = std::env::var("DATABASE_URL")?.parse()?;
    let mut owner = PgConnection::connect_with(&options).await?;
    migrations::run(&migrations::migrator(&LAMPS), &mut owner).await?;
    let database = Database::new(options, Limits::default());
    let journal = Journal::new("lamps", env!("CARGO_PKG_VERSION"), "no settings");

    let lamp = Uuid::now_v7();
    let on = switch(&database, &journal, lamp, None, 3).await?;
    switch(&database, &journal, lamp, Some(on), 200).await?;

    let page = database.read(None, (), |connection, ()| {
        Box::pin(feed::read(connection, "lamps", Cursor::start(), 5_000))
    });
    let mut before: Option<String> = None;
    for item in page.await??.items {
        let entry: Entry = serde_json::from_str(item.entry.get())?;
        if entry.aggregate_id != lamp {
            continue;
        }
        assert_eq!(hex(&hash(item.entry.get().as_bytes())), item.hash, "the bytes are those that were hashed");
        assert_eq!(entry.prev_hash.as_deref(), before.as_deref(), "the entry names the one before it");
        println!("{} -> {}: {} {}", entry.from, entry.to, entry.rule, entry.inputs);
        before = Some(item.hash);
    }
    println!("the chain of lamp {lamp} is whole");
    Ok(())
}

/// Writes the lamp's row and the entry in one transaction, and returns the new head.
async fn switch(
    database: &Database,
    journal: &Journal,
    lamp: Uuid,
    head: Option<Head>,
    lux: u32,
) -> Result<Head, journal::DatabaseError> {
    let rule = Switch { lux, dark_below: 10 };
    let (_, decided) = Decided::by(&rule);
    let cause =
        Cause { principal: "timer".into(), key_hash: None, correlation_id: "example".into(), trace_id: None };
    let entry = journal.seal(Draft {
        aggregate_id: lamp,
        head,
        command: "switch",
        cause: &cause,
        causation_id: None,
        decided,
        attempt: 1,
        evidence: (),
        payload_hash: None,
    });
    let written = database.transaction(None, &entry, |connection, entry| {
        Box::pin(async move {
            sqlx::query(
                "INSERT INTO lamps VALUES ($1, $2, $3)
                 ON CONFLICT (id) DO UPDATE SET state = $2, version = $3 WHERE lamps.version = $3 - 1",
            )
            .bind(entry.aggregate_id)
            .bind(entry.to)
            .bind(entry.version)
            .execute(&mut *connection)
            .await?;
            append(connection, &[entry], Keys::Leave).await?;
            Ok(TxEnd::Commit(()))
        })
    });
    written.await?;
    Ok(entry.head())
}
