//! Faults caused by docker commands under load. After each fault every order is decided as its customer wanted, and the
//! history is correct.

use std::time::Duration;

use local::Service;
use testkit::{eventually, eventually_now};
use tokio::time::Instant;

use crate::Fixture;
use crate::checked::check_history;
use crate::load::Load;
use crate::shop::{Answer, DECIDED_WITHIN, Plan};

/// Number of answers to wait for before, during and after a fault. At ten orders a second that takes some seconds, long
/// enough for a breaker to open and for the fault to affect calls of every step.
const ANSWERS: usize = 30;

/// Arguments of a `docker` command.
type Command = Vec<String>;

pub(crate) async fn a_paused_inventory_leaves_orders_undecided_and_loses_none(fixture: &Fixture) {
    let id = fixture.stack.container("inventory").await;
    outage(fixture, &[command(&["pause", &id])], &[command(&["unpause", &id])], is_undecided).await;
}

pub(crate) async fn an_inventory_without_a_network_leaves_orders_undecided_and_loses_none(fixture: &Fixture) {
    let id = fixture.stack.container("inventory").await;
    let inspected = fixture.stack.inspect("inventory").await;
    let networks: Vec<_> = inspected["NetworkSettings"]["Networks"].as_object().unwrap().keys().collect();
    assert_eq!(networks.len(), 2, "{networks:?}");
    let breaks: Vec<_> =
        networks.iter().map(|network| command(&["network", "disconnect", network, &id])).collect();
    let heals: Vec<_> = networks
        .iter()
        .map(|network| command(&["network", "connect", "--alias", "inventory", network, &id]))
        .collect();
    outage(fixture, &breaks, &heals, is_undecided).await;
}

pub(crate) async fn a_killed_inventory_leaves_orders_undecided_and_loses_none(fixture: &Fixture) {
    let id = fixture.stack.container("inventory").await;
    outage(fixture, &[command(&["kill", &id])], &[command(&["start", &id])], is_undecided).await;
}

pub(crate) async fn a_killed_database_is_answered_503_and_loses_no_order(fixture: &Fixture) {
    let id = fixture.stack.container("postgres").await;
    outage(fixture, &[command(&["kill", &id])], &[command(&["start", &id])], is_unavailable).await;
}

pub(crate) async fn a_service_that_exits_is_restarted(fixture: &Fixture) {
    for service in Service::BOTH {
        let before = fixture.stack.inspect(service.name()).await["RestartCount"].as_i64().unwrap();
        // The shell may end before docker gets its exit code, so an error is possible and means nothing.
        let _ended = fixture.stack.shell(service.name(), "kill -TERM 1").await;
        eventually(&format!("{service} is restarted"), Duration::from_mins(1), || async {
            let now = fixture.stack.inspect(service.name()).await["RestartCount"].as_i64().unwrap();
            anyhow::ensure!(now > before, "it was restarted {now} times");
            Ok(())
        })
        .await;
        fixture.stack.healthy(service.name()).await;
    }
    fixture.shop.buy(1, Plan::Confirm).await;
}

fn command(arguments: &[&str]) -> Command {
    arguments.iter().map(|argument| (*argument).to_owned()).collect()
}

/// True for the expected answer without inventory: the order is accepted and undecided.
fn is_undecided(answer: &Answer) -> bool {
    answer.status == 202
}

/// True for the expected answer without the database: the order service cannot accept an order.
fn is_unavailable(answer: &Answer) -> bool {
    answer.status == 503
}

/// Runs the load before, during and after a fault. Every answer during the fault must be `expected`, except answers that
/// refuse a request for overload.
async fn outage(fixture: &Fixture, breaks: &[Command], heals: &[Command], expected: fn(&Answer) -> bool) {
    let load = Load::start(&fixture.shop);
    wait_until_orders_flow(fixture, Instant::now()).await;

    docker(fixture, breaks).await;
    let broken = Instant::now();
    let meanwhile = move || fixture.shop.answers().into_iter().filter(move |answer| answer.sent_at >= broken);
    let enough = || meanwhile().filter(expected).count() >= ANSWERS;
    eventually_now("customers get answers during the fault", DECIDED_WITHIN, enough).await;
    fixture.shop.place_once(1).await;
    let answers: Vec<_> = meanwhile().collect();

    docker(fixture, heals).await;
    for Answer { status, reply, .. } in answers.iter().filter(|answer| !expected(answer)) {
        assert!(
            *status == 503 && reply.contains("x-outcome: not-executed"),
            "unexpected answer during the fault: {reply}"
        );
    }
    wait_until_orders_flow(fixture, Instant::now()).await;
    let orders = load.stop().await;
    let slowest = answers.iter().map(|answer| answer.answered_at - answer.sent_at).max().unwrap_or_default();
    println!("{orders} orders, {} answers during the fault, the slowest after {slowest:?}", answers.len());
    check_history(fixture).await;
}

/// Waits until [`ANSWERS`] orders sent after `since` were decided at once.
async fn wait_until_orders_flow(fixture: &Fixture, since: Instant) {
    eventually_now("orders flow", DECIDED_WITHIN, || {
        let answers = fixture.shop.answers();
        answers.iter().filter(|answer| answer.sent_at >= since && answer.status == 201).count() >= ANSWERS
    })
    .await;
}

async fn docker(fixture: &Fixture, commands: &[Command]) {
    for command in commands {
        let arguments: Vec<_> = command.iter().map(String::as_str).collect();
        fixture.stack.docker(&arguments).await.unwrap();
    }
}
