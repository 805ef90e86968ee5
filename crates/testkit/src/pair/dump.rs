//! Reading a service's database for the checker: tables and journal of one snapshot.

use std::collections::HashMap;

use anyhow::{Context as _, ensure};
use checker::{
    Call, ItemRow, KeyRow, Line, OrderRow, Recorded, ReservationRow, Session, Side, StoredReply, Tables,
};
use journal::entry::{hash, hex};
use journal::feed::{Cursor, read};
use local::Service;
use sqlx::types::time::OffsetDateTime;
use sqlx::{Connection, FromRow, PgConnection};
use uuid::Uuid;

use super::{TestPair, side};
use crate::proxy::HttpProxy;

/// What one service's database holds.
pub(super) struct Dump {
    pub(super) tables: Tables,
    pub(super) journal: Vec<Recorded>,
    pub(super) sessions: Vec<Session>,
    /// The database's clock.
    pub(super) now: OffsetDateTime,
}

/// The order service's.
pub(super) async fn order(pair: &TestPair) -> anyhow::Result<Dump> {
    let mut connection = snapshot(pair, Service::Order).await?;
    let rows: Vec<OrderColumns> = sqlx::query_as(
        "SELECT id, principal, status, version, encode(head_hash, 'hex') AS head_hash, lines::text AS lines,
             reservation_id, expires_at FROM orders",
    )
    .fetch_all(&mut connection)
    .await
    .context("orders")?;
    let orders = rows.into_iter().map(OrderColumns::row).collect::<Result<_, _>>()?;
    finish(connection, Service::Order, Tables { orders, ..Tables::default() }).await
}

/// Inventory's.
pub(super) async fn inventory(pair: &TestPair) -> anyhow::Result<Dump> {
    let mut connection = snapshot(pair, Service::Inventory).await?;
    let reservations: Vec<ReservationColumns> = sqlx::query_as(
        "SELECT id, order_id, status, version, encode(head_hash, 'hex') AS head_hash, lines::text AS lines
         FROM reservations",
    )
    .fetch_all(&mut connection)
    .await
    .context("reservations")?;
    let items: Vec<(String, i64, i64, i64, String)> =
        sqlx::query_as("SELECT sku, on_hand, held, version, encode(head_hash, 'hex') FROM items")
            .fetch_all(&mut connection)
            .await
            .context("items")?;
    let item = |(sku, on_hand, held, version, head_hash)| ItemRow { sku, on_hand, held, version, head_hash };
    let tables = Tables {
        reservations: reservations.into_iter().map(ReservationColumns::row).collect::<Result<_, _>>()?,
        items: items.into_iter().map(item).collect(),
        ..Tables::default()
    };
    finish(connection, Service::Inventory, tables).await
}

/// Both services' tables as one.
pub(super) fn merge(order: Tables, inventory: Tables) -> Tables {
    Tables { orders: order.orders, keys: [order.keys, inventory.keys].concat(), ..inventory }
}

/// A superuser's session past the proxies, in a transaction that sees one moment.
async fn snapshot(pair: &TestPair, service: Service) -> anyhow::Result<PgConnection> {
    let mut connection = PgConnection::connect_with(&pair.database(service).admin()).await?;
    let begin = "BEGIN TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY";
    sqlx::raw_sql(begin).execute(&mut connection).await?;
    Ok(connection)
}

/// Adds what both services have: keys, journal, sessions.
async fn finish(mut connection: PgConnection, service: Service, tables: Tables) -> anyhow::Result<Dump> {
    let keys: Vec<KeyColumns> = sqlx::query_as(
        "SELECT principal, encode(key_hash, 'hex') AS key_hash, aggregate_id, status, body FROM idempotency",
    )
    .fetch_all(&mut connection)
    .await
    .context("idempotency")?;
    let keys = keys.into_iter().map(|key| key.row(side(service))).collect();

    let (mut journal, mut cursor) = (Vec::new(), Cursor::start());
    loop {
        let page = read(&mut connection, service.name(), cursor, 1_000).await.context("journal")?;
        for item in &page.items {
            let recorded = Recorded::from_item(item);
            journal.push(recorded.with_context(|| format!("entry with seq {} is none", item.seq))?);
        }
        if !page.more {
            break;
        }
        cursor = page.next.context("a page that goes on says where")?.parse()?;
    }
    let now = sqlx::query_scalar("SELECT clock_timestamp()").fetch_one(&mut connection).await?;
    let sessions: Vec<(i32, i64)> = sqlx::query_as(
        "SELECT pid, CASE WHEN state LIKE 'idle in transaction%'
             THEN (1000 * extract(epoch FROM clock_timestamp() - state_change))::bigint ELSE 0 END
         FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()",
    )
    .fetch_all(&mut connection)
    .await
    .context("sessions")?;
    connection.close().await?;
    let session = |(pid, idle): (i32, i64)| Session {
        service: side(service),
        pid,
        idle_in_transaction_ms: u64::try_from(idle).unwrap_or(0),
    };
    let sessions = sessions.into_iter().map(session).collect();
    Ok(Dump { tables: Tables { keys, ..tables }, journal, sessions, now })
}

/// `Ok` when nothing is in flight; otherwise what is.
pub(super) async fn unsettled(pair: &TestPair) -> anyhow::Result<()> {
    for service in Service::BOTH {
        let mut connection = PgConnection::connect_with(&pair.database(service).admin()).await?;
        let keys: i64 = sqlx::query_scalar("SELECT count(*) FROM idempotency WHERE completed_at IS NULL")
            .fetch_one(&mut connection)
            .await?;
        let orders: Vec<(Uuid, String)> = match service {
            Service::Order => {
                sqlx::query_as(
                    "SELECT id, status FROM orders
                     WHERE status NOT IN ('reserved', 'rejected', 'confirmed', 'cancelled', 'expired')
                        OR (status = 'reserved' AND expires_at < clock_timestamp())
                     ORDER BY id LIMIT 10",
                )
                .fetch_all(&mut connection)
                .await?
            }
            Service::Inventory => Vec::new(),
        };
        connection.close().await?;
        ensure!(keys == 0 && orders.is_empty(), "{service}: {keys} keys without a reply, orders {orders:?}");
    }
    Ok(())
}

/// The calls that went over the hops. A call begins with attempt 1 and goes on with higher ones of the same key.
pub(super) fn calls(hops: &[HttpProxy]) -> Vec<Call> {
    let mut calls: Vec<Call> = Vec::new();
    let mut latest: HashMap<String, usize> = HashMap::new();
    for exchange in hops.iter().flat_map(HttpProxy::exchanges) {
        let request = &exchange.request;
        let header = |name| request.header(name).unwrap_or_default();
        let attempt: u32 = header("x-attempt").parse().unwrap_or(1);
        let call = [header("x-correlation-id"), header("idempotency-key"), request.subject()].join(" ");
        match latest.get(&call) {
            Some(index) if attempt > 1 => calls[*index].attempts = calls[*index].attempts.max(attempt),
            _ => {
                latest.insert(call, calls.len());
                calls.push(Call {
                    hop: format!("{}->{}", Side::Order, Side::Inventory),
                    correlation_id: header("x-correlation-id"),
                    attempts: attempt,
                });
            }
        }
    }
    calls
}

#[derive(FromRow)]
struct KeyColumns {
    principal: String,
    key_hash: String,
    aggregate_id: Uuid,
    status: Option<i16>,
    body: Option<Vec<u8>>,
}

impl KeyColumns {
    fn row(self, service: Side) -> KeyRow {
        let status = self.status.and_then(|status| u16::try_from(status).ok());
        let reply =
            status.zip(self.body).map(|(status, body)| StoredReply { status, body_hash: hex(&hash(&body)) });
        KeyRow {
            service,
            principal: self.principal,
            key_hash: self.key_hash,
            aggregate_id: Some(self.aggregate_id),
            reply,
        }
    }
}

#[derive(FromRow)]
struct OrderColumns {
    id: Uuid,
    principal: String,
    status: String,
    version: i64,
    head_hash: String,
    lines: String,
    reservation_id: Option<Uuid>,
    expires_at: Option<OffsetDateTime>,
}

impl OrderColumns {
    fn row(self) -> anyhow::Result<OrderRow> {
        Ok(OrderRow {
            id: self.id,
            principal: self.principal,
            status: self.status,
            version: self.version,
            head_hash: self.head_hash,
            lines: lines(&self.lines)?,
            reservation_id: self.reservation_id,
            expires_at: self.expires_at,
        })
    }
}

#[derive(FromRow)]
struct ReservationColumns {
    id: Uuid,
    order_id: Option<Uuid>,
    status: String,
    version: i64,
    head_hash: String,
    lines: String,
}

impl ReservationColumns {
    fn row(self) -> anyhow::Result<ReservationRow> {
        Ok(ReservationRow {
            id: self.id,
            order_id: self.order_id,
            status: self.status,
            version: self.version,
            head_hash: self.head_hash,
            lines: lines(&self.lines)?,
        })
    }
}

fn lines(json: &str) -> anyhow::Result<Vec<Line>> {
    serde_json::from_str(json).with_context(|| format!("lines that are none: {json}"))
}
