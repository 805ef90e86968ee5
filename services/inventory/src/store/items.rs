//! Items and their stock: create, receive, and reads.

use journal::{DatabaseError, HybridTime, Keys};
use sqlx::postgres::PgRow;
use sqlx::{FromRow, PgConnection, Row as _};
use tokio::time::Instant;
use uuid::Uuid;

use super::commands::{Command, Transition};
use super::{Store, StoredHead, unguarded};
use crate::domain::decisions::{self, create_item, receive};
use crate::domain::item::{Item, ItemState, item_id};
use crate::domain::stock::{Sku, Stock};
use crate::domain::{Decision, NewItem, Receipt};

const FIND: &str = "SELECT entry_id, hlc FROM items WHERE sku = $1";
const READ: &str = "SELECT sku, name, version, on_hand, held FROM items WHERE sku = $1";
const PAGE: &str = "SELECT sku, name, version, on_hand, held FROM items WHERE sku > $1 ORDER BY sku LIMIT $2";
const LOCK: &str = "SELECT sku, name, version, on_hand, held, head_hash, hlc, entry_id FROM items
    WHERE sku = $1 FOR NO KEY UPDATE";
const CREATE: &str = "INSERT INTO items (sku, name, on_hand, version, head_hash, hlc, entry_id)
    VALUES ($1, $2, $3, $4, $5, $6, $7)";
const RECEIVE: &str = "UPDATE items SET on_hand = $2, version = $3, head_hash = $4, hlc = $5, entry_id = $6
    WHERE sku = $1 AND version = $3 - 1";

pub(super) const STATEMENTS: [(&str, &str); 6] = [
    ("items::FIND", FIND),
    ("items::READ", READ),
    ("items::PAGE", PAGE),
    ("items::LOCK", LOCK),
    ("items::CREATE", CREATE),
    ("items::RECEIVE", RECEIVE),
];

impl<'r> FromRow<'r, PgRow> for Item {
    fn from_row(row: &'r PgRow) -> Result<Self, sqlx::Error> {
        let number = |name| row.try_get(name);
        let stock = Stock { held: number("held")?, on_hand: number("on_hand")?, version: number("version")? };
        Ok(Self { sku: row.try_get("sku")?, name: row.try_get("name")?, stock })
    }
}

impl Store {
    /// Reads an item.
    pub async fn item(&self, sku: &Sku, deadline: Instant) -> Result<Option<Item>, DatabaseError> {
        let read = self.database.read(Some(deadline), sku, |connection, sku| {
            Box::pin(sqlx::query_as(READ).bind(sku.as_str()).fetch_optional(connection))
        });
        read.await
    }

    /// Reads at most `limit` items with SKUs after `after`, in byte order.
    pub async fn items(
        &self,
        after: &str,
        limit: i64,
        deadline: Instant,
    ) -> Result<Vec<Item>, DatabaseError> {
        let read = self.database.read(Some(deadline), (after, limit), |connection, &(after, limit)| {
            Box::pin(sqlx::query_as(PAGE).bind(after).bind(limit).fetch_all(connection))
        });
        read.await
    }
}

impl Command for NewItem {
    /// The newest entry of the item that has the SKU, and its time, which need not be readable.
    type Found = Option<(Uuid, String)>;
    type Rule = decisions::CreateItem;
    type Object = Item;

    fn name(&self) -> &'static str {
        "create_item"
    }

    fn aggregate_id(&self) -> Uuid {
        item_id(&self.sku)
    }

    async fn lock(&self, connection: &mut PgConnection) -> Result<Self::Found, sqlx::Error> {
        sqlx::query_as(FIND).bind(self.sku.as_str()).fetch_optional(connection).await
    }

    fn decide(&self, found: &mut Self::Found) -> Decision<Self::Rule, Item> {
        create_item(self, found.is_some())
    }

    fn head(_: &Self::Found) -> Option<&StoredHead> {
        None
    }

    fn decided_by(found: &Self::Found) -> Option<(Uuid, Option<HybridTime>)> {
        found.as_ref().map(|(entry_id, hlc)| (*entry_id, hlc.parse().ok()))
    }

    async fn write(
        connection: &mut PgConnection,
        _: &Self::Found,
        Transition { after, sealed, claim, reply }: Transition<'_, Item>,
    ) -> Result<(), sqlx::Error> {
        sqlx::query(CREATE)
            .bind(after.sku)
            .bind(after.name)
            .bind(after.stock.on_hand)
            .bind(sealed.version)
            .bind(sealed.hash)
            .bind(sealed.hlc.to_string())
            .bind(sealed.id)
            .execute(&mut *connection)
            .await?;
        journal::append(connection, &[&sealed], Keys::Record(&[(claim, &reply)])).await?;
        Ok(())
    }
}

impl Command for Receipt {
    type Found = Option<(Item, StoredHead)>;
    type Rule = decisions::Receive;
    type Object = Item;

    fn name(&self) -> &'static str {
        "receive"
    }

    fn aggregate_id(&self) -> Uuid {
        item_id(&self.sku)
    }

    async fn lock(&self, connection: &mut PgConnection) -> Result<Self::Found, sqlx::Error> {
        let row = sqlx::query(LOCK).bind(self.sku.as_str()).fetch_optional(connection).await?;
        let read = |row: PgRow| {
            let item = Item::from_row(&row)?;
            let head = StoredHead::read(&row, ItemState::Stocked, item.stock.version)?;
            Ok((item, head))
        };
        row.map(read).transpose()
    }

    fn decide(&self, found: &mut Self::Found) -> Decision<Self::Rule, Item> {
        receive(self, found.as_ref().map(|(item, _)| item))
    }

    fn head(found: &Self::Found) -> Option<&StoredHead> {
        found.as_ref().map(|(_, head)| head)
    }

    async fn write(
        connection: &mut PgConnection,
        _: &Self::Found,
        Transition { after, sealed, claim, reply }: Transition<'_, Item>,
    ) -> Result<(), sqlx::Error> {
        let done = sqlx::query(RECEIVE)
            .bind(after.sku)
            .bind(after.stock.on_hand)
            .bind(sealed.version)
            .bind(sealed.hash)
            .bind(sealed.hlc.to_string())
            .bind(sealed.id)
            .execute(&mut *connection)
            .await?;
        if done.rows_affected() != 1 {
            return Err(unguarded("an item"));
        }
        journal::append(connection, &[&sealed], Keys::Record(&[(claim, &reply)])).await?;
        Ok(())
    }
}
