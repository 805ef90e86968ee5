//! Reading the services' databases for the checker, without going through the proxies.

use std::collections::HashMap;

use anyhow::{Context as _, ensure};
use checker::postgres::{Dump, dump, under_way};
use checker::{Call, Side};
use local::Service;
use sqlx::{Connection, PgConnection};

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
        let under_way = under_way(&mut connection, side(service)).await?;
        connection.close().await?;
        ensure!(under_way.is_none(), "{service}: {}", under_way.unwrap_or_default());
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
