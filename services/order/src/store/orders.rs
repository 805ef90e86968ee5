//! Orders: read, created, and moved from state to state.

use inventory_api::Line;
use journal::append::bind;
use journal::{Claim, Head, HybridTime, Keys, Sealed, State, StoredReply, entry};
use sqlx::postgres::PgRow;
use sqlx::types::Json;
use sqlx::{FromRow, PgConnection, Row};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::domain::Status;

/// An order as its row has it.
#[derive(Debug, Clone, PartialEq)]
pub struct Order {
    /// UUIDv7.
    pub id: Uuid,
    /// Whose.
    pub principal: String,
    /// For which customer.
    pub customer_id: String,
    /// What.
    pub lines: Vec<Line>,
    /// Where it stands.
    pub status: Status,
    /// Its reservation's id, whether or not inventory has seen it.
    pub reservation_id: Uuid,
    /// How long inventory is asked to hold.
    pub hold_seconds: i64,
    /// Until when inventory holds, by its clock.
    pub expires_at: Option<OffsetDateTime>,
    /// Of the request that placed it.
    pub correlation_id: String,
    /// Of the request that placed it.
    pub trace_id: Option<String>,
    /// When it was placed.
    pub created_at: OffsetDateTime,
    /// When it last changed state.
    pub updated_at: OffsetDateTime,
    /// The newest entry's version.
    pub version: i64,
    /// The newest entry's hash.
    pub head_hash: [u8; 32],
    /// The newest entry's id.
    pub head_entry: Uuid,
    /// The newest entry's hybrid time.
    pub head_clock: HybridTime,
    /// The newest entry's correlation id.
    pub head_correlation_id: String,
    /// Raised by everyone who takes the order to work on it.
    pub epoch: i64,
    /// Whether a request's lease on it is running, by the database's clock.
    pub in_flight: bool,
    /// Tries since the last definite answer.
    pub tries: i32,
}

impl Order {
    /// Where its journal stands.
    pub fn head(&self) -> Head {
        Head { state: self.status.as_str(), version: self.version, hash: self.head_hash }
    }
}

impl<'r> FromRow<'r, PgRow> for Order {
    fn from_row(row: &'r PgRow) -> Result<Self, sqlx::Error> {
        let status: &str = row.try_get("status")?;
        let hash: &[u8] = row.try_get("head_hash")?;
        let corrupt = |what: &str| sqlx::Error::Decode(format!("an order has {what}").into());
        Ok(Self {
            id: row.try_get("id")?,
            principal: row.try_get("principal")?,
            customer_id: row.try_get("customer_id")?,
            lines: row.try_get::<Json<_>, _>("lines")?.0,
            status: Status::parse(status).ok_or_else(|| corrupt("an unheard-of status"))?,
            reservation_id: row.try_get("reservation_id")?,
            hold_seconds: row.try_get("hold_seconds")?,
            expires_at: row.try_get("expires_at")?,
            correlation_id: row.try_get("correlation_id")?,
            trace_id: row.try_get("trace_id")?,
            created_at: row.try_get("created_at")?,
            updated_at: row.try_get("updated_at")?,
            version: row.try_get("version")?,
            head_hash: hash.try_into().map_err(|_| corrupt("a head hash that is not 32 bytes long"))?,
            head_entry: row.try_get("head_entry")?,
            head_clock: row
                .try_get::<&str, _>("head_clock")?
                .parse()
                .map_err(|_| corrupt("an unreadable hybrid time"))?,
            head_correlation_id: row.try_get("head_correlation_id")?,
            epoch: row.try_get("epoch")?,
            in_flight: row.try_get("in_flight")?,
            tries: row.try_get("tries")?,
        })
    }
}

/// The columns of [`Order`]; a macro, since SQL is checked to be a literal.
macro_rules! columns {
    () => {
        "id, principal, customer_id, lines, status, reservation_id, hold_seconds, expires_at, correlation_id, \
         trace_id, created_at, updated_at, version, head_hash, head_entry, head_clock, head_correlation_id, epoch, tries, \
         coalesce(holder = 'request' AND due_at > clock_timestamp(), false) AS in_flight"
    };
}
pub(super) use columns;

/// The parameters of [`entry!`]`(claim)`, then the order's as [`place`] binds them.
pub const PLACE: &str = concat!(
    "WITH ",
    entry!(claim),
    ", made AS (INSERT INTO orders (id, principal, customer_id, lines, status, reservation_id, hold_seconds,
        correlation_id, trace_id, created_at, updated_at, version, head_hash, head_entry, epoch, holder, due_at,
        head_clock, head_correlation_id)
     SELECT $15, $16, $17, $18, $19, $20, $21, $22, $23, $24, $24, $25, $26, $27, $28, 'request',
        clock_timestamp() + $29 * interval '1 millisecond', $30, $22 FROM claimed)
     SELECT count(*) FROM claimed"
);

/// Creates the order with its first entry, under its key and with a request's lease of `lease_ms` on it. `false`: the
/// key is taken, and nothing was written; see [`append`](journal::append()).
pub async fn place(
    connection: &mut PgConnection,
    order: &Order,
    lease_ms: i64,
    sealed: &Sealed,
    key: &Claim,
) -> Result<bool, sqlx::Error> {
    let done = bind(sqlx::query(PLACE), sealed, Keys::Claim(key))
        .bind(order.id)
        .bind(&order.principal)
        .bind(&order.customer_id)
        .bind(Json(&order.lines))
        .bind(order.status.as_str())
        .bind(order.reservation_id)
        .bind(order.hold_seconds)
        .bind(&order.correlation_id)
        .bind(&order.trace_id)
        .bind(order.created_at)
        .bind(order.version)
        .bind(order.head_hash)
        .bind(order.head_entry)
        .bind(order.epoch)
        .bind(lease_ms)
        .bind(order.head_clock.to_string())
        .fetch_one(connection)
        .await?;
    Ok(done.try_get::<i64, _>(0)? == 1)
}

/// When the reconciler may take an order after a transition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    /// Never: it is at rest.
    AtRest,
    /// After a request's lease of this many milliseconds, which raises the epoch.
    Lease(i64),
    /// After a back-off of this many milliseconds.
    Backoff(i64),
}

/// The parameters of [`entry!`]`(complete)`, then the order's as [`advance`] binds them.
pub const ADVANCE: &str = concat!(
    "WITH moved AS (UPDATE orders SET status = $20, version = $21, head_hash = $22, head_entry = $23,
        expires_at = $24, updated_at = $25, epoch = $26, holder = $27, tries = $28,
        due_at = clock_timestamp() + $29 * interval '1 millisecond', head_clock = $30, head_correlation_id = $31
     WHERE id = $17 AND version = $18 AND epoch = $19 RETURNING 1), ",
    entry!(complete when "moved"),
    " SELECT count(*) FROM moved"
);

/// Moves the order to what `moved` says, appends the entry that says why and completes the keys it answers by
/// `replies`, provided that it still is at `from`'s version and epoch. `false`: someone else has moved it or taken it
/// over, and nothing was written.
pub async fn advance(
    connection: &mut PgConnection,
    from: &Order,
    moved: &Order,
    due: Due,
    sealed: &Sealed,
    replies: &[(&'static str, StoredReply)],
) -> Result<bool, sqlx::Error> {
    let (holder, millis) = match due {
        Due::AtRest => (None, None),
        Due::Lease(ms) => (Some("request"), Some(ms)),
        Due::Backoff(ms) => (None, Some(ms)),
    };
    let done = bind(sqlx::query(ADVANCE), sealed, Keys::Complete(replies))
        .bind(from.id)
        .bind(from.version)
        .bind(from.epoch)
        .bind(moved.status.as_str())
        .bind(moved.version)
        .bind(moved.head_hash)
        .bind(moved.head_entry)
        .bind(moved.expires_at)
        .bind(moved.updated_at)
        .bind(moved.epoch)
        .bind(holder)
        .bind(moved.tries)
        .bind(millis)
        .bind(moved.head_clock.to_string())
        .bind(&moved.head_correlation_id)
        .fetch_one(connection)
        .await?;
    Ok(done.try_get::<i64, _>(0)? == 1)
}

/// Reads an order; with `principal`, only that principal's.
pub async fn get(
    connection: &mut PgConnection,
    id: Uuid,
    principal: Option<&str>,
) -> Result<Option<Order>, sqlx::Error> {
    sqlx::query_as(concat!(
        "SELECT ",
        columns!(),
        " FROM orders WHERE id = $1 AND ($2::text IS NULL OR principal = $2)"
    ))
    .bind(id)
    .bind(principal)
    .fetch_optional(connection)
    .await
}

/// Reads and locks a principal's order until the transaction ends.
pub async fn lock(
    connection: &mut PgConnection,
    id: Uuid,
    principal: &str,
) -> Result<Option<Order>, sqlx::Error> {
    sqlx::query_as(concat!("SELECT ", columns!(), " FROM orders WHERE id = $1 AND principal = $2 FOR UPDATE"))
        .bind(id)
        .bind(principal)
        .fetch_optional(connection)
        .await
}

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
            " FROM (SELECT *, sum(jsonb_array_length(lines)) OVER (ORDER BY id) - jsonb_array_length(lines) AS lines_before
              FROM (SELECT * FROM orders WHERE ",
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

/// Lists orders, oldest first, and where to go on if there may be more.
pub async fn list(
    connection: &mut PgConnection,
    page: &Page,
) -> Result<(Vec<Order>, Option<Uuid>), sqlx::Error> {
    let statement = match page.status {
        Some(status) if status.is_unresolved() => PAGE_OF_UNRESOLVED,
        _ if page.principal.is_some() => PAGE_OF_PRINCIPAL,
        _ => PAGE_OF_ALL,
    };
    let orders: Vec<Order> = sqlx::query_as(statement)
        .bind(page.after.unwrap_or_default())
        .bind(page.status.map(State::as_str))
        .bind(&page.customer_id)
        .bind(page.limit)
        .bind(PAGE_LINES)
        .bind(&page.principal)
        .fetch_all(connection)
        .await?;
    let lines: usize = orders.iter().map(|order| order.lines.len()).sum();
    let is_full = [(orders.len(), page.limit), (lines, PAGE_LINES)]
        .into_iter()
        .any(|(found, most)| i64::try_from(found).is_ok_and(|found| found >= most));
    let next = orders.last().filter(|_| is_full).map(|order| order.id);
    Ok((orders, next))
}
