//! Figures for the operations listener.

use sqlx::PgConnection;

/// The statement of [`held`]. It reads the partial index of held reservations, so its cost does not grow with history.
const HELD: &str = "SELECT count(*),
        GREATEST(extract(epoch FROM clock_timestamp() - min(expires_at) FILTER (WHERE isfinite(expires_at))), 0)::float8
    FROM reservations WHERE status = 'held'";

pub(super) const STATEMENTS: [(&str, &str); 1] = [("status::HELD", HELD)];

/// Counts the held reservations, and gives the seconds since the end of the most overdue one.
pub async fn held(connection: &mut PgConnection) -> Result<(i64, f64), sqlx::Error> {
    let (count, overdue): (i64, Option<f64>) = sqlx::query_as(HELD).fetch_one(connection).await?;
    Ok((count, overdue.unwrap_or_default()))
}
