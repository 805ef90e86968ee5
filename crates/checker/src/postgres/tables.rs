//! Reader of a service's tables.

use sqlx::postgres::PgRow;
use sqlx::{FromRow, PgConnection, Row as _};
use time::OffsetDateTime;
use uuid::Uuid;

use journal::ITEM_NAMESPACE;

use crate::{
    ClientReply, ItemRow, KeyRow, Line, OrderRow, ReservationRow, Side, StoredReply, Tables, UnreadRow,
};

/// Reads the tables of one service, and returns the rows that cannot be read apart.
pub(super) async fn read(
    connection: &mut PgConnection,
    side: Side,
) -> Result<(Tables, Vec<UnreadRow>), sqlx::Error> {
    let mut rows = Rows { side, unread: Vec::new() };
    let mut tables = Tables::default();
    match side {
        Side::Order => {
            let orders: Vec<OrderColumns> = rows.read(connection, "orders", Named::Id, ORDERS).await?;
            tables.orders = orders.into_iter().map(|row| row.row(&mut rows)).collect();
        }
        Side::Inventory => {
            let reservations: Vec<ReservationColumns> =
                rows.read(connection, "reservations", Named::Id, RESERVATIONS).await?;
            tables.reservations = reservations.into_iter().map(|row| row.row(&mut rows)).collect();
            let items: Vec<ItemColumns> = rows.read(connection, "items", Named::Sku, ITEMS).await?;
            tables.items = items.into_iter().map(ItemColumns::row).collect();
        }
    }
    let keys: Vec<KeyColumns> = rows.read(connection, "idempotency", Named::Aggregate, KEYS).await?;
    tables.keys = keys.into_iter().map(|key| key.row(side)).collect();
    Ok((tables, rows.unread))
}

/// A time that the database can hold and this program cannot, such as `infinity`, is read as NULL.
const ORDERS: &str = "SELECT id, principal, status, version, encode(head_hash, 'hex') AS head_hash, lines::text AS lines,
        reservation_id, CASE WHEN expires_at BETWEEN '0001-01-01' AND '9999-12-31' THEN expires_at END AS expires_at
    FROM orders";
const RESERVATIONS: &str = "SELECT id, order_id, status, version, encode(head_hash, 'hex') AS head_hash,
        lines::text AS lines FROM reservations";
const ITEMS: &str = "SELECT sku, on_hand, held, version, encode(head_hash, 'hex') AS head_hash FROM items";
const KEYS: &str = "SELECT principal, encode(key_hash, 'hex') AS key_hash, aggregate_id, status, body, entry_id FROM idempotency";

/// The column by which a table's row names its aggregate.
#[derive(Debug, Clone, Copy)]
enum Named {
    Id,
    Aggregate,
    Sku,
}

/// Reader of table rows. It collects the rows that it cannot read.
struct Rows {
    side: Side,
    unread: Vec<UnreadRow>,
}

impl Rows {
    /// Reads each row by itself, so that a row with an unreadable value does not stop the others.
    async fn read<T: for<'r> FromRow<'r, PgRow>>(
        &mut self,
        connection: &mut PgConnection,
        table: &'static str,
        named: Named,
        query: &'static str,
    ) -> Result<Vec<T>, sqlx::Error> {
        let rows = sqlx::query(query).fetch_all(connection).await?;
        let mut read = Vec::with_capacity(rows.len());
        for row in &rows {
            match T::from_row(row) {
                Ok(row) => read.push(row),
                Err(error) => self.unread(table, named.aggregate(row), error.to_string()),
            }
        }
        Ok(read)
    }

    fn unread(&mut self, table: &'static str, aggregate: Option<Uuid>, what: String) {
        self.unread.push(UnreadRow { service: self.side, table: table.to_owned(), aggregate, what });
    }

    fn lines(&mut self, table: &'static str, id: Uuid, json: &str) -> Option<Vec<Line>> {
        let lines = serde_json::from_str(json);
        lines.map_err(|error| self.unread(table, Some(id), format!("lines: {error}"))).ok()
    }
}

impl Named {
    fn aggregate(self, row: &PgRow) -> Option<Uuid> {
        match self {
            Self::Id => row.try_get("id").ok(),
            Self::Aggregate => row.try_get("aggregate_id").ok(),
            Self::Sku => {
                let sku: &str = row.try_get("sku").ok()?;
                Some(Uuid::new_v5(&ITEM_NAMESPACE, sku.as_bytes()))
            }
        }
    }
}

struct KeyColumns {
    principal: String,
    key_hash: String,
    aggregate_id: Uuid,
    status: Option<i16>,
    body: Option<Vec<u8>>,
    entry_id: Option<Uuid>,
}

journal::from_row!(KeyColumns { principal, key_hash, aggregate_id, status, body, entry_id });

impl KeyColumns {
    fn row(self, service: Side) -> KeyRow {
        let status = self.status.and_then(|status| u16::try_from(status).ok());
        let told = status.zip(self.body).map(|(status, body)| ClientReply::read(service, status, &body));
        let reply =
            told.as_ref().map(|told| StoredReply { status: told.status, body_hash: told.body_hash.clone() });
        KeyRow {
            service,
            principal: self.principal,
            key_hash: self.key_hash,
            aggregate_id: Some(self.aggregate_id),
            reply,
            told,
            entry_id: self.entry_id,
        }
    }
}

struct OrderColumns {
    id: Uuid,
    principal: String,
    status: String,
    version: i64,
    head_hash: String,
    lines: String,
    reservation_id: Option<Uuid>,
    expires_at: Option<OffsetDateTime>,
}

journal::from_row!(OrderColumns {
    id,
    principal,
    status,
    version,
    head_hash,
    lines,
    reservation_id,
    expires_at
});

impl OrderColumns {
    fn row(self, rows: &mut Rows) -> OrderRow {
        OrderRow {
            lines: rows.lines("orders", self.id, &self.lines),
            id: self.id,
            principal: self.principal,
            status: self.status,
            version: self.version,
            head_hash: self.head_hash,
            reservation_id: self.reservation_id,
            expires_at: self.expires_at,
        }
    }
}

struct ReservationColumns {
    id: Uuid,
    order_id: Option<Uuid>,
    status: String,
    version: i64,
    head_hash: String,
    lines: String,
}

journal::from_row!(ReservationColumns { id, order_id, status, version, head_hash, lines });

impl ReservationColumns {
    fn row(self, rows: &mut Rows) -> ReservationRow {
        ReservationRow {
            lines: rows.lines("reservations", self.id, &self.lines),
            id: self.id,
            order_id: self.order_id,
            status: self.status,
            version: self.version,
            head_hash: self.head_hash,
        }
    }
}

struct ItemColumns {
    sku: String,
    on_hand: i64,
    held: i64,
    version: i64,
    head_hash: String,
}

journal::from_row!(ItemColumns { sku, on_hand, held, version, head_hash });

impl ItemColumns {
    fn row(self) -> ItemRow {
        let Self { sku, on_hand, held, version, head_hash } = self;
        ItemRow { sku, on_hand, held, version, head_hash }
    }
}
