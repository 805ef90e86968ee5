//! A small checker for databases at rest: the invariants of inventory, independent of the service's store.

use std::collections::BTreeMap;

use inventory_service::domain::replay;
use journal::entry::hash;
use journal::hex;
use uuid::Uuid;

use crate::support::Stage;

pub async fn assert_sound(stage: &Stage) {
    let rows: Vec<(Vec<u8>, Vec<u8>)> =
        sqlx::query_as("SELECT body, hash FROM journal ORDER BY seq").fetch_all(&stage.admin).await.unwrap();
    let mut heads = BTreeMap::<Uuid, (String, i64, String, String)>::new();
    let mut lines = BTreeMap::<Uuid, Vec<(String, i64)>>::new();
    let mut stock = BTreeMap::<String, (i64, i64)>::new();
    for (body, stored) in rows {
        let entry: journal::Entry = serde_json::from_slice(&body).unwrap();
        let own = hash(&body);
        assert_eq!(own.as_slice(), stored);
        assert_eq!(replay(&entry.rule, &entry.inputs).unwrap(), entry.to, "{entry:?}");
        assert!(!entry.alternatives.is_empty(), "{entry:?}");
        let id = entry.aggregate_id;
        match heads.get(&id) {
            None => assert_eq!((&*entry.from, entry.version, &entry.prev_hash), ("none", 1, &None)),
            Some((state, version, prev, hlc)) => {
                assert_eq!((&*entry.from, entry.version), (state.as_str(), version + 1));
                assert_eq!(entry.prev_hash.as_deref(), Some(&**prev));
                assert!(entry.hlc.to_string() > *hlc, "hybrid time rises within an aggregate");
            }
        }
        heads.insert(id, (entry.to.to_string(), entry.version, hex(&own), entry.hlc.to_string()));
        if entry.aggregate_kind == "item" {
            let sku = entry.inputs["sku"].as_str().unwrap();
            stock.entry(sku.to_owned()).or_default().0 += entry.inputs["quantity"].as_i64().unwrap();
            continue;
        }
        let of_entry: Vec<(String, i64)> = entry.inputs["lines"]
            .as_array()
            .unwrap()
            .iter()
            .map(|l| (l["sku"].as_str().unwrap().to_owned(), l["quantity"].as_i64().unwrap()))
            .collect();
        let sign = match (&*entry.from, &*entry.to) {
            ("none", "held") => (0, 1),
            ("none", _) => (0, 0),
            ("held", "confirmed") => (-1, -1),
            ("held", _) => (0, -1),
            other => panic!("{other:?}"),
        };
        let first = lines.entry(id).or_insert_with(|| of_entry.clone());
        assert_eq!(*first, of_entry, "every entry of a reservation carries its lines");
        for (sku, quantity) in of_entry.iter().filter(|_| sign != (0, 0)) {
            let (on_hand, held) = stock.get_mut(sku).unwrap();
            *on_hand += sign.0 * quantity;
            *held += sign.1 * quantity;
            assert!(0 <= *held && *held <= *on_hand, "{sku}: {on_hand} on hand, {held} held");
        }
    }

    let items: Vec<(String, i64, i64, i64, Vec<u8>, String)> =
        sqlx::query_as("SELECT sku, on_hand, held, version, head_hash, hlc FROM items")
            .fetch_all(&stage.admin)
            .await
            .unwrap();
    assert_eq!(items.len(), stock.len());
    for (sku, on_hand, held, version, head_hash, hlc) in items {
        assert_eq!(stock[&sku], (on_hand, held), "{sku}");
        let id = Uuid::new_v5(&journal::ITEM_NAMESPACE, sku.as_bytes());
        assert_eq!(heads[&id], ("stocked".to_owned(), version, hex(&head_hash), hlc), "{sku}");
    }
    let reservations: Vec<(Uuid, String, i64, Vec<u8>, String, String)> =
        sqlx::query_as("SELECT id, status, version, head_hash, hlc, lines::text FROM reservations")
            .fetch_all(&stage.admin)
            .await
            .unwrap();
    assert_eq!(reservations.len(), lines.len());
    for (id, status, version, head_hash, hlc, row_lines) in reservations {
        assert_eq!(heads[&id], (status, version, hex(&head_hash), hlc), "{id}");
        let row_lines: Vec<inventory_api::Line> = serde_json::from_str(&row_lines).unwrap();
        let row_lines: Vec<_> = row_lines.into_iter().map(|l| (l.sku, l.quantity)).collect();
        assert_eq!(row_lines, lines[&id], "{id}");
    }
    let open: i64 = sqlx::query_scalar("SELECT count(*) FROM idempotency WHERE completed_at IS NULL")
        .fetch_one(&stage.admin)
        .await
        .unwrap();
    assert_eq!(open, 0, "a key is recorded with its reply or not at all");
}
