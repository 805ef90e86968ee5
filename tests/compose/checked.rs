//! Both journals and all tables, held against the contract.

use std::time::Duration;

use anyhow::ensure;
use checker::postgres::{dump_pair, under_way};
use checker::{Report, Rule, Side};
use local::Service;
use sqlx::PgConnection;
use testkit::eventually;

use crate::House;
use crate::tunnel::Tunnel;

/// What was interrupted is resolved within this, on a busy machine too.
const SETTLED_WITHIN: Duration = Duration::from_mins(1);

/// What cannot be seen from outside the containers: when work started, how often calls were attempted, what the
/// processes hold. Every other rule has to find something to check in a day with faults.
const UNSEEN: [Rule; 5] = [
    Rule::NothingStartsLate,
    Rule::TimeFallsPerHop,
    Rule::AttemptsPerCall,
    Rule::AttemptsPerHop,
    Rule::BackToBaseline,
];

/// Waits until nothing is in flight and checks everything that happened since the stack was started.
pub(crate) async fn sound(house: &House) -> Report {
    let tunnel = Tunnel::open(&house.stack).await.unwrap();
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
    dump.observed.requests = house.shop.log().requests();
    let report = dump.check(&pair_tests::contract());
    report.require(&[Rule::StockConserved, Rule::ChainVerifies]).unwrap_or_else(|broken| panic!("{broken}"));
    house.shop.balance().await;
    report
}

/// The checker's name of a service.
pub(crate) fn side(service: Service) -> Side {
    match service {
        Service::Order => Side::Order,
        Service::Inventory => Side::Inventory,
    }
}

async fn sessions(tunnel: &Tunnel) -> anyhow::Result<(PgConnection, PgConnection)> {
    Ok((tunnel.connect(Service::Order).await?, tunnel.connect(Service::Inventory).await?))
}

pub(crate) async fn all_that_happened_is_within_the_contract(house: &House) {
    let report = sound(house).await;
    let seen: Vec<_> = Rule::ALL.iter().copied().filter(|rule| !UNSEEN.contains(rule)).collect();
    report.require(&seen).unwrap_or_else(|missing| panic!("{missing}"));
    println!("{} journal entries, {} requests", report.entries, house.shop.log().requests().len());
}
