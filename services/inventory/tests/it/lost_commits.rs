//! Tests of a COMMIT whose answer never comes: the use case finds its outcome, or reports that it is unknown.

use std::time::Duration;

use inventory_service::app::{CommandContext, CommandError};
use mainstay::RequestContext;
use testkit::proxy::{Cut, Direction, Flow, TcpProxy};
use uuid::Uuid;

use crate::support::{Stage, ask, ask_with};

async fn stage() -> (Stage, TcpProxy) {
    Stage::with(&[("a", 10)]).await.behind_proxy().await
}

#[tokio::test]
async fn a_commit_that_succeeded_is_found_by_its_key() {
    let (stage, proxy) = stage().await;
    let (id, key) = (Uuid::now_v7(), "a key for the lost commit");
    proxy.cut_on(b"COMMIT", 0, Cut::BeforeReply);
    let reply = stage.reserve(ask_with(key), id, &[("a", 1)]).await.unwrap();
    assert_eq!(proxy.counts().cuts, 1);
    assert_eq!((reply.stored.status, reply.replayed), (201, true), "the stored reply is replayed");
    assert_eq!((stage.stock("a").await, stage.path(id).await), ((10, 1), vec!["held".to_owned()]));
    stage.assert_sound().await;
}

#[tokio::test]
async fn a_commit_that_never_arrived_is_done_again_once() {
    let (stage, proxy) = stage().await;
    let id = stage.hold(&[("a", 1)]).await;
    proxy.cut_on(b"COMMIT", 0, Cut::BeforeDelivery);
    let reply = stage.confirm(ask(), id).await.unwrap();
    assert_eq!(proxy.counts().cuts, 1);
    assert_eq!((reply.stored.status, reply.replayed), (200, false));
    assert_eq!((stage.stock("a").await, stage.path(id).await.len()), ((9, 0), 2));
    stage.assert_sound().await;
}

#[tokio::test]
async fn a_database_that_stays_silent_after_a_commit_leaves_the_outcome_unknown_until_the_key_is_repeated() {
    let (stage, proxy) = stage().await;
    let (id, key) = (Uuid::now_v7(), "a key for the silent one");
    // The pool has a connection, so that the COMMIT is the first statement to fail.
    stage.app.store.held().await.unwrap();
    let hurried =
        CommandContext { context: RequestContext::background(Duration::from_secs(4)), ..ask_with(key) };
    proxy.cut_on(b"COMMIT", 0, Cut::BeforeReply);
    let (result, ()) = tokio::join!(stage.reserve(hurried, id, &[("a", 1)]), async {
        while proxy.counts().cuts == 0 {
            tokio::task::yield_now().await;
        }
        proxy.close().await;
    });
    let failure = result.unwrap_err();
    assert!(matches!(failure, CommandError::Unknown(_)), "{failure:?}");
    proxy.heal().await;
    let repeat = stage.reserve(ask_with(key), id, &[("a", 1)]).await.unwrap();
    assert_eq!((repeat.stored.status, repeat.replayed), (201, true));
    assert_eq!(stage.stock("a").await, (10, 1));
    stage.assert_sound().await;
}

#[tokio::test]
async fn a_connection_lost_before_the_commit_means_that_nothing_was_done() {
    let (stage, proxy) = stage().await;
    proxy.cut_on(b"INSERT INTO journal", 0, Cut::BeforeReply);
    let id = Uuid::now_v7();
    let failure = stage.reserve(ask(), id, &[("a", 1)]).await.unwrap_err();
    assert!(matches!(failure, CommandError::NotExecuted(_)), "{failure:?}");
    assert_eq!((stage.stock("a").await, stage.status(id).await), ((10, 0), None));
    stage.assert_sound().await;
}

#[tokio::test]
async fn connections_that_died_while_idle_are_replaced_without_an_error() {
    let (stage, proxy) = stage().await;
    stage.hold(&[("a", 1)]).await;
    proxy.cut();
    let id = stage.hold(&[("a", 1)]).await;
    proxy.flow(Direction::Down, Flow::Pass(Duration::from_millis(1)));
    assert_eq!(stage.confirm(ask(), id).await.unwrap().stored.status, 200);
    stage.assert_sound().await;
}
