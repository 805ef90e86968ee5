//! Reading the services' databases for the checker, without going through the proxies.

use std::collections::HashMap;

use anyhow::ensure;
use checker::postgres::{PairDump, dump_pair, under_way};
use checker::{Call, Side};
use local::Service;
use sqlx::{Connection, PgConnection};

use super::TestPair;
use crate::proxy::HttpProxy;

/// Both databases, read in a superuser's sessions.
pub(super) async fn of(pair: &TestPair) -> anyhow::Result<PairDump> {
    let (mut order, mut inventory) = sessions(pair).await?;
    let dump = dump_pair(&mut order, &mut inventory).await?;
    order.close().await?;
    inventory.close().await?;
    Ok(dump)
}

/// `Ok` when nothing is in flight; otherwise what is.
pub(super) async fn unsettled(pair: &TestPair) -> anyhow::Result<()> {
    let (mut order, mut inventory) = sessions(pair).await?;
    let under_way = under_way(&mut order, &mut inventory).await?;
    order.close().await?;
    inventory.close().await?;
    ensure!(under_way.is_none(), "{}", under_way.unwrap_or_default());
    Ok(())
}

async fn sessions(pair: &TestPair) -> anyhow::Result<(PgConnection, PgConnection)> {
    let [order, inventory] =
        [Service::Order, Service::Inventory].map(|service| pair.database(service).admin());
    Ok((PgConnection::connect_with(&order).await?, PgConnection::connect_with(&inventory).await?))
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
