//! Tests of creating items, receiving stock and reading pages.

use inventory_service::app::CommandError;
use inventory_service::domain::Refusal;
use tokio::time::Instant;

use crate::support::{PATIENCE, Stage, ask, body, problem};

#[tokio::test]
async fn a_new_item_has_the_stock_of_its_creation() {
    let stage = Stage::new().await;
    let reply = stage.create(ask(), "85123A", 100).await.unwrap();
    assert_eq!(reply.stored.status, 201);
    assert_eq!(reply.stored.location.as_deref(), Some("/v1/items/85123A"));
    let expected = r#"{"sku":"85123A","name":"","on_hand":100,"held":0,"available":100}"#;
    assert_eq!(String::from_utf8(reply.stored.body).unwrap(), expected);
    stage.assert_sound().await;
}

#[tokio::test]
async fn a_second_creation_with_the_same_sku_is_refused_for_good() {
    let stage = Stage::with(&[("a", 1)]).await;
    let again = ask();
    let reply = stage.create(again.clone(), "a", 5).await.unwrap();
    assert_eq!((reply.stored.status, problem(&reply).as_str()), (409, "sku-exists"));
    assert_eq!(reply.entry_id, Some(stage.entries(None).await[0].id), "the creation decided it");
    let replay = stage.create(again, "a", 5).await.unwrap();
    assert!(replay.replayed);
    assert_eq!(replay.stored, reply.stored);
    assert_eq!(stage.stock("a").await, (1, 0));
    stage.assert_sound().await;
}

#[tokio::test]
async fn a_receipt_adds_to_the_stock_and_to_the_history_of_the_item() {
    let stage = Stage::with(&[("a", 1)]).await;
    let id = stage.hold(&[("a", 1)]).await;
    let reply = stage.receive(ask(), "a", 50).await.unwrap();
    assert_eq!(reply.stored.status, 201);
    assert_eq!(body(&reply)["on_hand"], 51);
    assert_eq!(body(&reply)["available"], 50);
    let item = inventory_service::domain::item::item_id(&"a".to_owned().try_into().unwrap());
    let versions: Vec<_> = stage.entries(Some(item)).await.iter().map(|e| e.version).collect();
    assert_eq!(versions, [1, 2], "a reservation writes no entry of the item");
    stage.confirm(ask(), id).await.unwrap();
    assert_eq!(stage.stock("a").await, (50, 0));
    stage.assert_sound().await;
}

#[tokio::test]
async fn a_receipt_of_an_unknown_item_is_refused_without_claiming_its_key() {
    let stage = Stage::new().await;
    let ask = ask();
    let refused = stage.receive(ask.clone(), "ghost", 1).await.unwrap_err();
    assert!(matches!(refused, CommandError::NotYet(r) if matches!(*r, Refusal::NoItem(_))));
    assert_eq!(stage.keys().await, 0);
    stage.create(crate::support::ask(), "ghost", 0).await.unwrap();
    assert_eq!(stage.receive(ask, "ghost", 1).await.unwrap().stored.status, 201, "the key is still free");
}

#[tokio::test]
async fn pages_of_items_are_sorted_by_the_bytes_of_the_skus() {
    let stage = Stage::with(&[("b", 1), ("B", 1), ("a b", 1), ("10", 1), ("9", 1)]).await;
    let deadline = Instant::now() + PATIENCE;
    let (mut after, mut seen) = (String::new(), Vec::new());
    loop {
        let page = stage.app.store.items(&after, 2, deadline).await.unwrap();
        let Some(last) = page.last() else { break };
        after.clone_from(&last.sku);
        seen.extend(page.into_iter().map(|item| item.sku));
    }
    assert_eq!(seen, ["10", "9", "B", "a b", "b"]);
    let item = stage.app.store.item(&"a b".to_owned().try_into().unwrap(), deadline).await.unwrap();
    assert_eq!(item.unwrap().stock.on_hand, 1);
    assert_eq!(stage.app.store.item(&"c".to_owned().try_into().unwrap(), deadline).await.unwrap(), None);
}

#[tokio::test]
async fn an_item_whose_chain_cannot_be_read_is_read_and_listed_beside_the_others() {
    let stage = Stage::with(&[("a", 1), ("b", 2)]).await;
    sqlx::query("UPDATE items SET hlc = 'noon' WHERE sku = 'a'").execute(&stage.admin).await.unwrap();
    let deadline = Instant::now() + PATIENCE;
    let listed = stage.app.store.items("", 10, deadline).await.unwrap();
    assert_eq!(
        listed.iter().map(|item| (&*item.sku, item.stock.on_hand)).collect::<Vec<_>>(),
        [("a", 1), ("b", 2)]
    );
    let one = stage.app.store.item(&"a".to_owned().try_into().unwrap(), deadline).await.unwrap();
    assert_eq!(one.as_ref(), listed.first());
    assert!(stage.receive(ask(), "a", 1).await.is_err(), "a change needs the chain");
    assert!(stage.receive(ask(), "b", 1).await.is_ok());
}
