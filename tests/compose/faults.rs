//! What docker can do to the stack while customers are buying. Afterwards every order is decided as its customer
//! wished, and the history is sound.

use std::time::Duration;

use local::Service;
use testkit::{eventually, eventually_now};
use tokio::time::Instant;

use crate::House;
use crate::checked::sound;
use crate::load::Load;
use crate::shop::{Answer, DECIDED_WITHIN, Wish};

/// Answers waited for before, during and after a fault: at ten orders a second some seconds each, so that a breaker
/// opens, and calls are met by the fault at every step.
const ANSWERS: usize = 30;

/// One `docker` command.
type Command = Vec<String>;

pub(crate) async fn a_paused_inventory_leaves_orders_undecided_and_none_lost(house: &House) {
    let id = house.stack.container("inventory").await;
    outage(house, &[command(&["pause", &id])], &[command(&["unpause", &id])], is_undecided).await;
}

pub(crate) async fn an_inventory_without_a_network_leaves_orders_undecided_and_none_lost(house: &House) {
    let id = house.stack.container("inventory").await;
    let inspected = house.stack.inspect("inventory").await;
    let networks: Vec<_> = inspected["NetworkSettings"]["Networks"].as_object().unwrap().keys().collect();
    assert_eq!(networks.len(), 2, "{networks:?}");
    let breaks: Vec<_> =
        networks.iter().map(|network| command(&["network", "disconnect", network, &id])).collect();
    let heals: Vec<_> = networks
        .iter()
        .map(|network| command(&["network", "connect", "--alias", "inventory", network, &id]))
        .collect();
    outage(house, &breaks, &heals, is_undecided).await;
}

pub(crate) async fn a_killed_inventory_leaves_orders_undecided_and_none_lost(house: &House) {
    let id = house.stack.container("inventory").await;
    outage(house, &[command(&["kill", &id])], &[command(&["start", &id])], is_undecided).await;
}

pub(crate) async fn a_killed_database_is_said_and_loses_nothing(house: &House) {
    let id = house.stack.container("postgres").await;
    outage(house, &[command(&["kill", &id])], &[command(&["start", &id])], is_said).await;
}

pub(crate) async fn a_service_that_ends_is_started_again(house: &House) {
    for service in Service::BOTH {
        let before = house.stack.inspect(service.name()).await["RestartCount"].as_i64().unwrap();
        // Its shell may be gone before docker has heard how it ended.
        let _ended = house.stack.shell(service.name(), "kill -TERM 1").await;
        eventually(&format!("{service} was started again"), Duration::from_mins(1), || async {
            let now = house.stack.inspect(service.name()).await["RestartCount"].as_i64().unwrap();
            anyhow::ensure!(now > before, "it was started {now} times");
            Ok(())
        })
        .await;
        house.stack.healthy(service.name()).await;
    }
    house.shop.buy(1, Wish::Confirm).await;
}

fn command(arguments: &[&str]) -> Command {
    arguments.iter().map(|argument| (*argument).to_owned()).collect()
}

/// Without inventory an order is accepted and left undecided.
fn is_undecided(answer: &Answer) -> bool {
    answer.status == 202
}

/// Without its database the order service can accept nothing, and says so.
fn is_said(answer: &Answer) -> bool {
    answer.status == 503
}

/// Has customers buy before, during and after a fault. All that they are told meanwhile has to be `expected`, but for
/// a request that was refused for want of room.
async fn outage(house: &House, breaks: &[Command], heals: &[Command], expected: fn(&Answer) -> bool) {
    let load = Load::start(&house.shop);
    flows(house, Instant::now()).await;

    docker(house, breaks).await;
    let broken = Instant::now();
    let meanwhile = move || house.shop.answers().into_iter().filter(move |answer| answer.begun >= broken);
    let enough = || meanwhile().filter(expected).count() >= ANSWERS;
    eventually_now("customers are told of the fault", DECIDED_WITHIN, enough).await;
    house.shop.ask_once(1).await;
    let told: Vec<_> = meanwhile().collect();

    docker(house, heals).await;
    for Answer { status, reply, .. } in told.iter().filter(|answer| !expected(answer)) {
        assert!(*status == 503 && reply.contains("x-outcome: not-executed"), "while it was down: {reply}");
    }
    flows(house, Instant::now()).await;
    let orders = load.stop().await;
    let slowest = told.iter().map(|answer| answer.at - answer.begun).max().unwrap_or_default();
    println!("{orders} orders, {} answers during the fault, the slowest after {slowest:?}", told.len());
    sound(house).await;
}

/// Waits until orders that are begun now are decided at once.
async fn flows(house: &House, since: Instant) {
    eventually_now("orders flow", DECIDED_WITHIN, || {
        let answers = house.shop.answers();
        answers.iter().filter(|answer| answer.begun >= since && answer.status == 201).count() >= ANSWERS
    })
    .await;
}

async fn docker(house: &House, commands: &[Command]) {
    for command in commands {
        let arguments: Vec<_> = command.iter().map(String::as_str).collect();
        house.stack.docker(&arguments).await.unwrap();
    }
}
