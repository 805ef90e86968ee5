//! Check of both journals and all tables against the contract.

use std::time::Duration;

use anyhow::ensure;
use checker::postgres::{dump, under_way};
use checker::{Checker, Observed, Report, Rule, Side};
use local::Service;
use sqlx::Connection as _;
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
    // Read the order service first, so that inventory's journal, read later, holds every fact that orders refer to.
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
        requests: fixture.shop.log().requests(),
        ..Observed::of_dumps(&mut order, &mut inventory)
    };
    let report = checker.finish(&observed);
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

async fn read(tunnel: &Tunnel, service: Service) -> anyhow::Result<checker::postgres::Dump> {
    let mut connection = tunnel.connect(service).await?;
    let dump = dump(&mut connection, side(service)).await?;
    connection.close().await?;
    Ok(dump)
}

pub(crate) async fn the_whole_history_follows_the_contract(fixture: &Fixture) {
    let report = check_history(fixture).await;
    let seen: Vec<_> = Rule::ALL.iter().copied().filter(|rule| !UNSEEN.contains(rule)).collect();
    report.require(&seen).unwrap_or_else(|missing| panic!("{missing}"));
    println!("{} journal entries, {} requests", report.entries, fixture.shop.log().requests().len());
}
