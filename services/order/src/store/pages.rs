//! Pages of orders.

use journal::State;
use sqlx::{PgConnection, Row};
use uuid::Uuid;

use super::order::{ANY_STATUS, StoredOrder, Unreadable, columns, decode_all};
use crate::domain::Status;

/// Filters, cursor and limit of a page.
#[derive(Debug, Clone, Default)]
pub struct Page {
    /// Only orders of this principal.
    pub principal: Option<String>,
    /// Only orders in this status.
    pub status: Option<Status>,
    /// Only orders of this customer.
    pub customer_id: Option<String>,
    /// Only orders with ids after this one: ids rise with the time of placing.
    pub after: Option<Uuid>,
    /// Limit on orders of the page.
    pub limit: i64,
}

/// Number of lines that ends a page. The order that reaches it is the last, so a page has at most 4,999 lines: a reply of
/// about a megabyte. 500 orders of 1,000 lines would take a container's whole memory.
pub const PAGE_LINES: i64 = 4_000;

/// The statement for a page of the orders that match `$which`, sorted by `$by`. Parameters: $1 id after which the page
/// begins, $2 status, $3 customer, $4 limit, $5 [`PAGE_LINES`], $6 principal. One plan serves every value, so a condition
/// that an index is searched by must not be optional.
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

/// The page of all orders.
const PAGE_OF_ALL: &str = page!("id > $1 AND $6::text IS NULL" by "id");
/// The page of one principal's orders. With `principal = $6` sorting by id alone would be enough; then the planner, which
/// does not know the principal, might scan the orders of all principals to find a few.
const PAGE_OF_PRINCIPAL: &str = page!("(principal, id) > ($6, $1) AND principal <= $6" by "principal, id");
/// The page of the orders in an unresolved status. Each of them has a due time, and few orders have one.
const PAGE_OF_UNRESOLVED: &str =
    page!("due_at IS NOT NULL AND id > $1 AND ($6::text IS NULL OR principal = $6)" by "id");

/// The statements of all pages, for the test that checks their plans.
pub const PAGES: [(&str, &str); 3] =
    [("all", PAGE_OF_ALL), ("principal", PAGE_OF_PRINCIPAL), ("unresolved", PAGE_OF_UNRESOLVED)];

/// A page of orders. Rows that cannot be read are named, because a list without them would be incomplete and not say so.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct FoundOrders {
    /// The orders, oldest first.
    pub orders: Vec<StoredOrder>,
    /// The rows of the page that this release cannot read.
    pub unreadable: Vec<Unreadable>,
    /// Cursor of the next page; `None` at the end.
    pub next: Option<Uuid>,
}

/// Lists orders, oldest first.
pub(super) async fn list(connection: &mut PgConnection, page: &Page) -> Result<FoundOrders, sqlx::Error> {
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
    let (orders, unreadable) = decode_all(&rows, ANY_STATUS)?;
    let lines: usize = orders.iter().map(|order| order.lines.len()).sum();
    let is_full = [(rows.len(), page.limit), (lines, PAGE_LINES)]
        .into_iter()
        .any(|(found, most)| i64::try_from(found).is_ok_and(|found| found >= most));
    let last = rows.last().filter(|_| is_full);
    let next = last.map(|row| row.try_get("id")).transpose()?;
    Ok(FoundOrders { orders, unreadable, next })
}
