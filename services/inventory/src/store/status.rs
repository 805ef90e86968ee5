//! What the operations listener wants to know.

use sqlx::PgConnection;

/// Through the partial index over what is held, so the history costs nothing.
const HELD: &str = "SELECT count(*),
        GREATEST(extract(epoch FROM clock_timestamp() - min(expires_at) FILTER (WHERE isfinite(expires_at))), 0)::float8
    FROM reservations WHERE status = 'held'";

pub(super) const STATEMENTS: [(&str, &str); 1] = [("status::HELD", HELD)];

/// How many reservations are held, and for how many seconds the most overdue of them is past its end.
pub async fn held(connection: &mut PgConnection) -> Result<(i64, f64), sqlx::Error> {
    let (count, overdue): (i64, Option<f64>) = sqlx::query_as(HELD).fetch_one(connection).await?;
    Ok((count, overdue.unwrap_or_default()))
}
