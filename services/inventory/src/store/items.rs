//! Items and their stock.

use journal::{Keys, Sealed};
use sqlx::postgres::PgRow;
use sqlx::{FromRow, PgConnection, Row as _};

use super::{StoredHead, unguarded};
use crate::domain::stock::{ItemName, OpeningStock, Quantity, Sku, Stock};

/// An item in its present state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// SKU of the item.
    pub sku: String,
    /// Name of the item.
    pub name: String,
    /// Stock of the item.
    pub stock: Stock,
    /// The newest entry of the item.
    pub head: StoredHead,
}

/// An item for reads. Every value of its columns is readable, so that no item makes a page fail.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct Listed {
    /// SKU of the item.
    pub sku: String,
    /// Name of the item.
    pub name: String,
    /// Stock of the item.
    #[sqlx(flatten)]
    pub stock: Stock,
    /// Id of the newest entry.
    pub entry_id: uuid::Uuid,
    /// Hybrid time of the newest entry, as text from the row.
    pub hlc: String,
}

impl<'r> FromRow<'r, PgRow> for Stock {
    fn from_row(row: &'r PgRow) -> Result<Self, sqlx::Error> {
        let number = |name| row.try_get(name);
        Ok(Self { held: number("held")?, on_hand: number("on_hand")?, version: number("version")? })
    }
}

macro_rules! listed {
    () => {
        "sku, name, version, on_hand, held, entry_id, hlc"
    };
}

const READ: &str = concat!("SELECT ", listed!(), " FROM items WHERE sku = $1");
const LOCK: &str = concat!("SELECT ", listed!(), ", head_hash FROM items WHERE sku = $1 FOR NO KEY UPDATE");
const PAGE: &str = concat!("SELECT ", listed!(), " FROM items WHERE sku > $1 ORDER BY sku LIMIT $2");
const CREATE: &str = "INSERT INTO items (sku, name, on_hand, version, head_hash, hlc, entry_id)
    VALUES ($1, $2, $3, $4, $5, $6, $7)";
const RECEIVE: &str =
    "UPDATE items SET on_hand = on_hand + $2, version = $3, head_hash = $4, hlc = $5, entry_id = $6
    WHERE sku = $1 AND version = $3 - 1";

pub(super) const STATEMENTS: [(&str, &str); 5] = [
    ("items::READ", READ),
    ("items::LOCK", LOCK),
    ("items::PAGE", PAGE),
    ("items::CREATE", CREATE),
    ("items::RECEIVE", RECEIVE),
];

#[derive(sqlx::FromRow)]
struct Row {
    sku: String,
    name: String,
    version: i64,
    on_hand: i64,
    held: i64,
    head_hash: Vec<u8>,
    hlc: String,
    entry_id: uuid::Uuid,
}

impl TryFrom<Row> for Item {
    type Error = sqlx::Error;

    fn try_from(row: Row) -> Result<Self, sqlx::Error> {
        Ok(Self {
            stock: Stock { version: row.version, on_hand: row.on_hand, held: row.held },
            head: StoredHead::read(row.version, row.head_hash, &row.hlc, row.entry_id)?,
            sku: row.sku,
            name: row.name,
        })
    }
}

/// Reads an item.
pub async fn read(connection: &mut PgConnection, sku: &Sku) -> Result<Option<Listed>, sqlx::Error> {
    sqlx::query_as(READ).bind(sku.as_str()).fetch_optional(connection).await
}

/// Reads an item and locks its row.
pub async fn lock(connection: &mut PgConnection, sku: &Sku) -> Result<Option<Item>, sqlx::Error> {
    let row: Option<Row> = sqlx::query_as(LOCK).bind(sku.as_str()).fetch_optional(connection).await?;
    row.map(Item::try_from).transpose()
}

/// Reads at most `limit` items with SKUs after `after`.
pub async fn page(
    connection: &mut PgConnection,
    after: &str,
    limit: i64,
) -> Result<Vec<Listed>, sqlx::Error> {
    sqlx::query_as(PAGE).bind(after).bind(limit).fetch_all(connection).await
}

/// Writes a new item, its entry and the completed key.
pub async fn create(
    connection: &mut PgConnection,
    sku: &Sku,
    name: &ItemName,
    on_hand: OpeningStock,
    sealed: &Sealed,
    keys: Keys<'_>,
) -> Result<(), sqlx::Error> {
    let head = StoredHead::of(sealed);
    sqlx::query(CREATE)
        .bind(sku.as_str())
        .bind(name.as_str())
        .bind(on_hand.get())
        .bind(head.version)
        .bind(head.hash)
        .bind(head.hlc.to_string())
        .bind(head.entry_id)
        .execute(&mut *connection)
        .await?;
    journal::append(connection, &[sealed], keys).await?;
    Ok(())
}

/// Adds stock to a locked item, and writes its entry and the completed key.
pub async fn receive(
    connection: &mut PgConnection,
    sku: &Sku,
    quantity: Quantity,
    sealed: &Sealed,
    keys: Keys<'_>,
) -> Result<(), sqlx::Error> {
    let head = StoredHead::of(sealed);
    let done = sqlx::query(RECEIVE)
        .bind(sku.as_str())
        .bind(quantity.get())
        .bind(head.version)
        .bind(head.hash)
        .bind(head.hlc.to_string())
        .bind(head.entry_id)
        .execute(&mut *connection)
        .await?;
    if done.rows_affected() != 1 {
        return Err(unguarded("an item"));
    }
    journal::append(connection, &[sealed], keys).await?;
    Ok(())
}
