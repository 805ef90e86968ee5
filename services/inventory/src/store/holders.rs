//! Reservations of one item, for operators who want to know which orders took its stock.

use sqlx::PgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::domain::stock::Sku;

/// The reservations of one status that name an item.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct Share {
    /// Status of the reservations.
    pub status: String,
    /// Number of the reservations.
    pub reservations: i64,
    /// Pieces of the item that they name.
    pub pieces: i64,
}

/// A reservation that names an item.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct Holder {
    /// Id of the reservation.
    pub id: Uuid,
    /// Id of the order; `None` for a reservation that was voided before its reserve arrived.
    pub order_id: Option<Uuid>,
    /// Status of the reservation.
    pub status: String,
    /// Pieces of the item that the reservation names; `None` when its line has no number.
    pub quantity: Option<i64>,
    /// Time of the last change.
    pub updated_at: OffsetDateTime,
}

/// A statement over the reservations of an item. It searches the lines of every reservation without an index, because
/// operators ask seldom and each reservation would pay for the index.
macro_rules! of_item {
    ($select:literal, $rest:literal) => {
        concat!(
            "SELECT ",
            $select,
            " FROM (SELECT id, order_id, status, updated_at,
                     CASE WHEN jsonb_typeof(line -> 'quantity') = 'number'
                       THEN trunc((line ->> 'quantity')::numeric)::bigint END AS quantity
                   FROM reservations CROSS JOIN LATERAL jsonb_array_elements(lines) AS line
                   WHERE lines @> jsonb_build_array(jsonb_build_object('sku', $1::text)) AND line ->> 'sku' = $1) r ",
            $rest
        )
    };
}

const SHARES: &str = of_item!(
    "r.status, count(*) AS reservations, coalesce(sum(r.quantity), 0)::bigint AS pieces",
    "GROUP BY r.status ORDER BY r.status"
);
const NEWEST: &str = of_item!(
    "r.id, r.order_id, r.status, r.quantity, r.updated_at",
    "ORDER BY r.status <> 'held', r.updated_at DESC LIMIT $2"
);

/// The statements of this module, by name.
pub const STATEMENTS: [(&str, &str); 2] = [("holders_shares", SHARES), ("holders_newest", NEWEST)];

/// Reads the sums of an item's reservations by status, and at most `limit` of its reservations: the held ones first, then
/// the newest.
pub async fn read(
    connection: &mut PgConnection,
    sku: &Sku,
    limit: i64,
) -> Result<(Vec<Share>, Vec<Holder>), sqlx::Error> {
    let shares = sqlx::query_as(SHARES).bind(sku.as_str()).fetch_all(&mut *connection).await?;
    let newest = sqlx::query_as(NEWEST).bind(sku.as_str()).bind(limit).fetch_all(connection).await?;
    Ok((shares, newest))
}
