//! Reading the services' databases for the checker, past the proxies.

use std::collections::HashMap;

use anyhow::{Context as _, ensure};
use checker::postgres::{Dump, dump};
use checker::{Call, Side};
use local::Service;
use sqlx::{Connection, PgConnection};
use uuid::Uuid;

use super::{TestPair, side};
use crate::proxy::HttpProxy;

/// What one service's database holds, read in a superuser's session.
pub(super) async fn of(pair: &TestPair, service: Service) -> anyhow::Result<Dump> {
    let mut connection = PgConnection::connect_with(&pair.database(service).admin()).await?;
    let dump = dump(&mut connection, side(service)).await;
    let dump = dump.with_context(|| format!("dumping {service}"))?;
    connection.close().await?;
    Ok(dump)
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
