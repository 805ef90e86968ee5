//! Check of both journals and all tables against the contract.

use std::time::Duration;

use anyhow::ensure;
use checker::postgres::{dump_pair, under_way};
use checker::{Report, Rule, Side};
use local::Service;
use sqlx::PgConnection;
use testkit::eventually;

use crate::Fixture;
use crate::tunnel::Tunnel;

/// Longest time until interrupted work is resolved, also on a busy machine.
const SETTLED_WITHIN: Duration = Duration::from_mins(1);

/// Rules about facts that are not visible from outside the containers: the start of work, the attempts of calls, the
/// resources of the processes. Every other rule must have something to check after the faults.
const UNSEEN: [Rule; 5] = [
    Rule::NothingStartsLate,
    Rule::TimeFallsPerHop,
    Rule::AttemptsPerCall,
    Rule::AttemptsPerHop,
    Rule::BackToBaseline,
];

/// Waits until nothing is in flight, and checks the whole history since the start of the stack.
pub(crate) async fn check_history(fixture: &Fixture) -> Report {
    let tunnel = Tunnel::open(&fixture.stack).await.unwrap();
    eventually("the pair settles", SETTLED_WITHIN, || async {
        let mut sessions = sessions(&tunnel).await?;
        let under_way = under_way(&mut sessions.0, &mut sessions.1).await?;
        ensure!(under_way.is_none(), "{}", under_way.unwrap_or_default());
        Ok(())
    })
    .await;
    let mut sessions = sessions(&tunnel).await.unwrap();
    let mut dump = dump_pair(&mut sessions.0, &mut sessions.1).await.unwrap();
    dump.observed.at_rest = true;
    dump.observed.requests = fixture.shop.log().requests();
    let report = dump.check(&pair_tests::contract());
    report.require(&[Rule::StockConserved, Rule::ChainVerifies]).unwrap_or_else(|broken| panic!("{broken}"));
    fixture.shop.check_stock().await;
    report
}

/// The checker's name for a service.
pub(crate) fn side(service: Service) -> Side {
    match service {
        Service::Order => Side::Order,
        Service::Inventory => Side::Inventory,
    }
}

async fn sessions(tunnel: &Tunnel) -> anyhow::Result<(PgConnection, PgConnection)> {
    Ok((tunnel.connect(Service::Order).await?, tunnel.connect(Service::Inventory).await?))
}

pub(crate) async fn the_whole_history_follows_the_contract(fixture: &Fixture) {
    let report = check_history(fixture).await;
    let seen: Vec<_> = Rule::ALL.iter().copied().filter(|rule| !UNSEEN.contains(rule)).collect();
    report.require(&seen).unwrap_or_else(|missing| panic!("{missing}"));
    println!("{} journal entries, {} requests", report.entries, fixture.shop.log().requests().len());
}
