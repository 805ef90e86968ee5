//! Figures for operators: the reservations that took an item's stock, and the number of held reservations.

use std::time::Duration;

use journal::DatabaseError;
use serde::Serialize;
use time::OffsetDateTime;
use tokio::time::Instant;
use uuid::Uuid;

use super::Store;
use crate::domain::stock::Sku;

/// The longest time for a count. It reads one partial index.
const LONGEST_COUNT: Duration = Duration::from_secs(2);

/// Number of held reservations, and the age of the most overdue one.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Held {
    /// Number of reservations in `held`.
    pub count: i64,
    /// Seconds since the earliest end of a hold that has not been expired; 0 when no hold is due.
    pub overdue_seconds: f64,
}

journal::from_row!(Held { count, overdue_seconds });

/// The reservations of one status that name an item.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Share {
    /// Status of the reservations.
    pub status: String,
    /// Number of the reservations.
    pub reservations: i64,
    /// Pieces of the item that they name.
    pub pieces: i64,
}

journal::from_row!(Share { status, reservations, pieces });

/// A reservation that names an item.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
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
    #[serde(with = "time::serde::rfc3339")]
    pub updated_at: OffsetDateTime,
}

journal::from_row!(Holder { id, order_id, status, quantity, updated_at });

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

/// Counts held reservations. It reads their partial index, so its cost does not grow with history.
const HELD: &str = "SELECT count(*) AS count, GREATEST(extract(epoch FROM
        clock_timestamp() - min(expires_at) FILTER (WHERE isfinite(expires_at))), 0)::float8 AS overdue_seconds
    FROM reservations WHERE status = 'held'";

pub(super) const STATEMENTS: [(&str, &str); 3] =
    [("holders::SHARES", SHARES), ("holders::NEWEST", NEWEST), ("holders::HELD", HELD)];

impl Store {
    /// Reads the sums of an item's reservations by status, and at most `limit` of its reservations: the held ones first,
    /// then the newest.
    pub async fn holders(
        &self,
        sku: &Sku,
        limit: i64,
        deadline: Instant,
    ) -> Result<(Vec<Share>, Vec<Holder>), DatabaseError> {
        let read = self.database.read(Some(deadline), (sku, limit), |connection, &(sku, limit)| {
            Box::pin(async move {
                let shares = sqlx::query_as(SHARES).bind(sku.as_str()).fetch_all(&mut *connection).await?;
                let newest = sqlx::query_as(NEWEST).bind(sku.as_str()).bind(limit);
                Ok((shares, newest.fetch_all(connection).await?))
            })
        });
        read.await
    }

    /// Counts the held reservations.
    pub async fn held(&self) -> Result<Held, DatabaseError> {
        let deadline = Some(Instant::now() + LONGEST_COUNT);
        let read = self
            .database
            .read(deadline, (), |connection, ()| Box::pin(sqlx::query_as(HELD).fetch_one(connection)));
        read.await
    }
}
