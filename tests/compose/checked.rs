//! Both journals and all tables, held against the contract.

use std::time::Duration;

use anyhow::ensure;
use checker::postgres::{dump, under_way};
use checker::{Checker, Observed, Report, Rule, Side};
use local::Service;
use sqlx::Connection as _;
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
    for service in Service::BOTH {
        eventually(&format!("{service} settles"), SETTLED_WITHIN, || async {
            let mut connection = tunnel.connect(service).await?;
            let under_way = under_way(&mut connection, side(service)).await?;
            connection.close().await?;
            ensure!(under_way.is_none(), "{}", under_way.unwrap_or_default());
            Ok(())
        })
        .await;
    }
    // The order service first: what it knows of inventory is then in inventory's journal.
    let mut order = read(&tunnel, Service::Order).await.unwrap();
    let mut inventory = read(&tunnel, Service::Inventory).await.unwrap();
    let contract = pair_tests::contract();
    let mut checker = Checker::new(&contract);
    for (side, journal) in [(Side::Order, &order.journal), (Side::Inventory, &inventory.journal)] {
        for recorded in journal {
            checker.entry(side, recorded);
        }
    }
    let observed = Observed {
        at_rest: true,
        requests: house.shop.log().requests(),
        ..Observed::of_dumps(&mut order, &mut inventory)
    };
    let report = checker.finish(&observed);
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

async fn read(tunnel: &Tunnel, service: Service) -> anyhow::Result<checker::postgres::Dump> {
    let mut connection = tunnel.connect(service).await?;
    let dump = dump(&mut connection, side(service)).await?;
    connection.close().await?;
    Ok(dump)
}

pub(crate) async fn all_that_happened_is_within_the_contract(house: &House) {
    let report = sound(house).await;
    let seen: Vec<_> = Rule::ALL.iter().copied().filter(|rule| !UNSEEN.contains(rule)).collect();
    report.require(&seen).unwrap_or_else(|missing| panic!("{missing}"));
    println!("{} journal entries, {} requests", report.entries, house.shop.log().requests().len());
}
