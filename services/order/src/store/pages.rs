//! Lists of orders, page by page.

use journal::State;
use sqlx::{PgConnection, Row};
use uuid::Uuid;

use super::orders::{StoredOrder, Unreadable, columns, decode};
use crate::domain::Status;

/// Which orders to list.
#[derive(Debug, Clone, Default)]
pub struct Page {
    /// Only this principal's.
    pub principal: Option<String>,
    /// Only in this state.
    pub status: Option<Status>,
    /// Only of this customer.
    pub customer_id: Option<String>,
    /// Only placed after this one.
    pub after: Option<Uuid>,
    /// At most this many.
    pub limit: i64,
}

/// A page ends with the order that brings its lines to this many, so it has at most 4,999: a reply of about a
/// megabyte at most, where 500 orders of 1,000 lines would take a container's whole memory.
pub const PAGE_LINES: i64 = 4_000;

/// A page of the orders that `$which` finds, in the order `$by`: $1 after which id, $2 status, $3 customer, $4 limit,
/// $5 [`PAGE_LINES`], $6 principal. One plan has to serve every value, so what an index is to be searched by must not
/// be optional.
macro_rules! page {
    ($which:literal by $by:literal) => {
        concat!(
            "SELECT ",
            columns!(),
            " FROM (SELECT *, sum(line_count) OVER (ORDER BY id) - line_count AS lines_before
              FROM (SELECT *, CASE jsonb_typeof(lines) WHEN 'array' THEN jsonb_array_length(lines) ELSE 0 END AS line_count
                FROM orders WHERE ",
            $which,
            " AND ($2::text IS NULL OR status = $2) AND ($3::text IS NULL OR customer_id = $3)
                ORDER BY ",
            $by,
            " LIMIT $4) page) counted
              WHERE lines_before < $5 ORDER BY id"
        )
    };
}

/// Everybody's.
const PAGE_OF_ALL: &str = page!("id > $1 AND $6::text IS NULL" by "id");
/// One principal's. With `principal = $6` the order of ids alone would do, and the planner, which does not know whose,
/// might walk through everybody's to find a few.
const PAGE_OF_PRINCIPAL: &str = page!("(principal, id) > ($6, $1) AND principal <= $6" by "principal, id");
/// In an unresolved state: these alone are due, and they are few.
const PAGE_OF_UNRESOLVED: &str =
    page!("due_at IS NOT NULL AND id > $1 AND ($6::text IS NULL OR principal = $6)" by "id");

/// The statements that find a page, for the test that looks at their plans.
pub const PAGES: [(&str, &str); 3] =
    [("all", PAGE_OF_ALL), ("principal", PAGE_OF_PRINCIPAL), ("unresolved", PAGE_OF_UNRESOLVED)];

/// A page as it was found. A row that cannot be read is named: a list that left it out would be half a view.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Found {
    /// The orders, oldest first.
    pub orders: Vec<StoredOrder>,
    /// The rows among them that this release cannot read.
    pub unreadable: Vec<Unreadable>,
    /// Where to go on if there may be more.
    pub next: Option<Uuid>,
}

/// Lists orders, oldest first.
pub async fn list(connection: &mut PgConnection, page: &Page) -> Result<Found, sqlx::Error> {
    let statement = match page.status {
        Some(status) if status.is_unresolved() => PAGE_OF_UNRESOLVED,
        _ if page.principal.is_some() => PAGE_OF_PRINCIPAL,
        _ => PAGE_OF_ALL,
    };
    let rows = sqlx::query(statement)
        .bind(page.after.unwrap_or_default())
        .bind(page.status.map(State::as_str))
        .bind(&page.customer_id)
        .bind(page.limit)
        .bind(PAGE_LINES)
        .bind(&page.principal)
        .fetch_all(connection)
        .await?;
    let mut found = Found::default();
    for row in &rows {
        match decode(row)? {
            Ok(order) => found.orders.push(order),
            Err(fault) => found.unreadable.push(fault),
        }
    }
    let lines: usize = found.orders.iter().map(|order| order.lines.len()).sum();
    let is_full = [(rows.len(), page.limit), (lines, PAGE_LINES)]
        .into_iter()
        .any(|(found, most)| i64::try_from(found).is_ok_and(|found| found >= most));
    let last = rows.last().filter(|_| is_full);
    found.next = last.map(|row| row.try_get("id")).transpose()?;
    Ok(found)
}
