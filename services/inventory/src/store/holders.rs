//! Reservations of one item: for operators, who ask where its stock went.

use sqlx::PgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::domain::stock::Sku;

/// The reservations of one status that name an item.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct Share {
    /// Their status.
    pub status: String,
    /// How many they are.
    pub reservations: i64,
    /// The pieces of the item that they name.
    pub pieces: i64,
}

/// One reservation that names an item.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct Holder {
    /// The reservation.
    pub id: Uuid,
    /// Its order; null for one that was voided unseen.
    pub order_id: Option<Uuid>,
    /// Its status.
    pub status: String,
    /// The pieces of the item that it names; `None` when its line does not say.
    pub quantity: Option<i64>,
    /// When it last changed.
    pub updated_at: OffsetDateTime,
}

/// The lines of every reservation are searched, without an index of their own: an operator asks seldom, and each
/// reservation would pay for the index.
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

/// Every statement here, by name.
pub const STATEMENTS: [(&str, &str); 2] = [("holders_shares", SHARES), ("holders_newest", NEWEST)];

/// How an item's stock is shared out, and at most `limit` of its reservations: those held first, then the newest.
pub async fn read(
    connection: &mut PgConnection,
    sku: &Sku,
    limit: i64,
) -> Result<(Vec<Share>, Vec<Holder>), sqlx::Error> {
    let shares = sqlx::query_as(SHARES).bind(sku.as_str()).fetch_all(&mut *connection).await?;
    let newest = sqlx::query_as(NEWEST).bind(sku.as_str()).bind(limit).fetch_all(connection).await?;
    Ok((shares, newest))
}
