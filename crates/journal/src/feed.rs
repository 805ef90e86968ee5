//! Reader of the journal in commit order. It loses no row and waits for no other transaction.
//!
//! `seq > last` loses rows: a transaction that drew its number early may commit late. A wait for the oldest open transaction
//! stalls behind every writer of the cluster. So a reader keeps a snapshot. The next batch has the entries that are visible now
//! and were not visible in that snapshot, sorted by `seq`. An entry draws its `seq` after the lock of its aggregate's row, so
//! the entries of an aggregate come in order. The cursor has the snapshots, and the server keeps no state.
//!
//! A snapshot is valid in its own cluster only. Entries that came from another cluster are history and are read by `seq`,
//! before all others: see [`crate::cluster`]. A cursor from another cluster is refused.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::hex::hex;

/// Snapshot before all entries, in every cluster.
const START: &str = "1:1:";

/// Position of a reader: the snapshot that it has read (`base`), the snapshot of the batch that it is reading with the last `seq`
/// read, and the number of restores of the journal until then.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cursor {
    epoch: i32,
    base: String,
    batch: Option<(String, i64)>,
}

/// Error for a text that is not a cursor of the feed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a journal cursor: pass `next` of the previous page, or nothing to begin")]
pub struct InvalidCursor;

/// Reasons why the feed gives no page.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The snapshots of the cursor are not of this cluster, or the cluster has lost their transactions.
    #[error(
        "the database was restored, or has lost its newest transactions, since this cursor was given: begin again \
         without a cursor"
    )]
    Outdated,
    /// The journal came from another cluster, and the end of its history is not marked yet.
    #[error("the journal was restored from another database server and is not marked as such: run `migrate`")]
    Unmarked,
}

impl Cursor {
    /// The cursor before all entries.
    pub fn start() -> Self {
        Self { epoch: 0, base: START.to_owned(), batch: None }
    }

    /// Returns whether the cursor is valid in every cluster.
    fn is_start(&self) -> bool {
        self.base == START && self.batch.is_none()
    }

    /// Returns whether the snapshots can be of the cluster whose snapshot is `now`.
    fn is_of(&self, epoch: i32, now: &str) -> bool {
        let newest = self.batch.as_ref().map_or(&self.base, |(upper, _)| upper);
        self.epoch == epoch && xmax(newest) <= xmax(now)
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.epoch > 0 {
            write!(f, "{}@", self.epoch)?;
        }
        match &self.batch {
            None => f.write_str(&self.base),
            Some((upper, last)) => write!(f, "{}~{upper}~{last}", self.base),
        }
    }
}

impl FromStr for Cursor {
    type Err = InvalidCursor;

    fn from_str(text: &str) -> Result<Self, InvalidCursor> {
        let (epoch, text) = match text.split_once('@') {
            Some((epoch, text)) => (epoch.parse().ok().filter(|e| *e > 0).ok_or(InvalidCursor)?, text),
            None => (0, text),
        };
        let mut parts = text.split('~');
        let base = snapshot(parts.next().unwrap_or_default())?;
        let batch = match (parts.next(), parts.next()) {
            (None, None) => None,
            (Some(upper), Some(last)) => Some((snapshot(upper)?, last.parse().map_err(|_| InvalidCursor)?)),
            _ => return Err(InvalidCursor),
        };
        if parts.next().is_some() {
            return Err(InvalidCursor);
        }
        Ok(Self { epoch, base, batch })
    }
}

/// The first transaction id that was not yet given out; 0 for a text that is not a snapshot.
fn xmax(snapshot: &str) -> u64 {
    snapshot.split(':').nth(1).and_then(|xmax| xmax.parse().ok()).unwrap_or(0)
}

/// Parses `xmin:xmax:xid,xid,…` with xmin ≤ each xid < xmax, ascending, as PostgreSQL requires.
fn snapshot(text: &str) -> Result<String, InvalidCursor> {
    let number = |t: &str| -> Result<u64, InvalidCursor> {
        if t.is_empty() || t.len() > 19 || !t.bytes().all(|b| b.is_ascii_digit()) {
            return Err(InvalidCursor);
        }
        t.parse().map_err(|_| InvalidCursor)
    };
    let mut parts = text.split(':');
    let (Some(xmin), Some(xmax), Some(open), None) = (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(InvalidCursor);
    };
    let (xmin, xmax) = (number(xmin)?, number(xmax)?);
    let mut low = xmin;
    for xid in open.split(',').filter(|_| !open.is_empty()) {
        let xid = number(xid)?;
        if xid < low || xid >= xmax {
            return Err(InvalidCursor);
        }
        low = xid + 1;
    }
    if xmin == 0 || xmin > xmax { Err(InvalidCursor) } else { Ok(text.to_owned()) }
}

/// One row of the feed: the entry with the bytes that were hashed.
#[derive(Debug, Serialize, Deserialize)]
pub struct Item {
    /// Number of the row.
    pub seq: i64,
    /// SHA-256 of the entry's bytes, in hex.
    pub hash: String,
    /// Bytes of the entry, embedded as they are; null for bytes that are not JSON.
    pub entry: Box<RawValue>,
    /// Bytes that are not JSON, in hex. The other rows of the page do not depend on them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unreadable: Option<String>,
}

impl Item {
    fn of((seq, body, hash): Row) -> Self {
        let (entry, unreadable) = match serde_json::from_slice::<Box<RawValue>>(&body) {
            Ok(entry) => (entry, None),
            Err(_) => (RawValue::NULL.to_owned(), Some(hex(&body))),
        };
        Self { seq, hash: hex(&hash), entry, unreadable }
    }

    /// Returns the bytes of an entry that is not JSON, and `None` for other entries.
    pub fn bytes(&self) -> Option<Vec<u8>> {
        let digits = self.unreadable.as_ref()?.as_bytes();
        // A pair that is not hex gives no byte. The hash of the bytes then differs from the stated one.
        let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
        Some(digits.chunks(2).filter_map(byte).collect())
    }
}

/// A page of the feed.
#[derive(Debug, Serialize, Deserialize)]
pub struct Page {
    /// Name of the service.
    pub service: String,
    /// Entries in commit order.
    pub items: Vec<Item>,
    /// Cursor of the next page; `None` with a filter, which has one page.
    pub next: Option<String>,
    /// True if the page ended at a limit, so that further entries may be there already.
    pub more: bool,
}

/// A page ends with the entry that brings its bodies to this many bytes. One entry may have 100 KB.
pub const PAGE_BYTES: i64 = 4 << 20;

/// Selects the rows of `$page` (seq, body, hash) up to that entry. `$bytes` is the parameter for [`PAGE_BYTES`].
macro_rules! bounded {
    ($page:literal, $bytes:literal) => {
        concat!(
            "SELECT seq, body, hash FROM (
                 SELECT *, sum(octet_length(body)) OVER (ORDER BY seq) - octet_length(body) AS bytes_before
                 FROM (",
            $page,
            ") page) counted
             WHERE bytes_before < ",
            $bytes,
            " ORDER BY seq"
        )
    };
}

type Row = (i64, Vec<u8>, Vec<u8>);

/// Returns whether the page ended at a limit.
fn is_full(rows: &[Row], limit: i64) -> bool {
    let bytes: usize = rows.iter().map(|(_, body, _)| body.len()).sum();
    [(rows.len(), limit), (bytes, PAGE_BYTES)]
        .into_iter()
        .any(|(found, most)| i64::try_from(found).is_ok_and(|found| found >= most))
}

/// Reads the current snapshot, the history, and whether there is a history without an end: the entry with the highest transaction
/// id is visible, and the cluster has not begun that transaction.
const NOW: &str = "SELECT pg_current_snapshot()::text, epoch, history_end,
        EXISTS (SELECT FROM (SELECT seq, xid FROM journal ORDER BY xid DESC LIMIT 1) highest
                WHERE seq > history_end AND xid >= pg_snapshot_xmax(pg_current_snapshot()))
    FROM (SELECT coalesce(max(epoch), 0) AS epoch, coalesce(max(history_end), 0) AS history_end
          FROM journal_clusters) known";

/// Reads from the start: $1 the end of the history, $2 the snapshot to read up to, $3 the last row, $4 limit, $5 [`PAGE_BYTES`].
const FROM_START: &str = bounded!(
    "SELECT seq, body, hash FROM journal
     WHERE (seq <= $1 OR pg_visible_in_snapshot(xid, $2::pg_snapshot)) AND seq > $3
     ORDER BY seq LIMIT $4",
    "$5"
);

/// Reads on: $1 the snapshot that was read, $2 the snapshot to read up to, $3 the last row or the end of the history, $4 limit, $5
/// [`PAGE_BYTES`].
const ONWARD: &str = bounded!(
    "SELECT seq, body, hash FROM journal
     WHERE xid >= pg_snapshot_xmin($1::pg_snapshot)
       AND xid < pg_snapshot_xmax($2::pg_snapshot)
       AND NOT pg_visible_in_snapshot(xid, $1::pg_snapshot)
       AND pg_visible_in_snapshot(xid, $2::pg_snapshot)
       AND seq > $3
     ORDER BY seq LIMIT $4",
    "$5"
);

/// Reads the next entries after `cursor`: at most `limit`, or [`PAGE_BYTES`] of them.
pub async fn read(
    connection: &mut PgConnection,
    service: &str,
    cursor: Cursor,
    limit: i64,
) -> Result<Result<Page, Refused>, sqlx::Error> {
    let (now, epoch, history_end, is_unmarked): (String, i32, i64, bool) =
        sqlx::query_as(NOW).fetch_one(&mut *connection).await?;
    if is_unmarked {
        return Ok(Err(Refused::Unmarked));
    }
    if !cursor.is_start() && !cursor.is_of(epoch, &now) {
        return Ok(Err(Refused::Outdated));
    }
    let (upper, last) = cursor.batch.unwrap_or((now, 0));
    let query = if cursor.base == START {
        sqlx::query_as(FROM_START).bind(history_end).bind(&upper).bind(last)
    } else {
        sqlx::query_as(ONWARD).bind(&cursor.base).bind(&upper).bind(last.max(history_end))
    };
    let rows: Vec<Row> = query.bind(limit).bind(PAGE_BYTES).fetch_all(connection).await?;
    let full = is_full(&rows, limit);
    let next = match rows.last() {
        Some((seq, ..)) if full => Cursor { epoch, base: cursor.base, batch: Some((upper, *seq)) },
        _ => Cursor { epoch, base: upper, batch: None },
    };
    let next = Some(next.to_string());
    Ok(Ok(Page {
        service: service.to_owned(),
        items: rows.into_iter().map(Item::of).collect(),
        next,
        more: full,
    }))
}

/// A search by one property, instead of reading in commit order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Filter {
    /// Entries of one aggregate.
    Aggregate(Uuid),
    /// Entries of one request.
    Correlation(String),
    /// Entries of one trace.
    Trace(String),
    /// Entries of the aggregates of an idempotency key, of any principal, while the key is kept.
    Key([u8; 32]),
}

/// Finds entries through the table of keys, which saves an index on every entry: $1 the hash, $2 limit, $3 [`PAGE_BYTES`].
pub const BY_KEY: &str = bounded!(
    "SELECT seq, body, hash FROM journal
     WHERE aggregate_id IN (SELECT aggregate_id FROM idempotency WHERE key_hash = $1)
     ORDER BY seq LIMIT $2",
    "$3"
);

/// Finds entries that match `filter`, by `seq`: at most `limit`, or [`PAGE_BYTES`] of them.
pub async fn find(
    connection: &mut PgConnection,
    service: &str,
    filter: &Filter,
    limit: i64,
) -> Result<Page, sqlx::Error> {
    let query = match filter {
        Filter::Aggregate(id) => sqlx::query_as(bounded!(
            "SELECT seq, body, hash FROM journal WHERE aggregate_id = $1 ORDER BY seq LIMIT $2",
            "$3"
        ))
        .bind(*id),
        Filter::Correlation(id) => sqlx::query_as(bounded!(
            "SELECT seq, body, hash FROM journal WHERE correlation_id = $1 ORDER BY seq LIMIT $2",
            "$3"
        ))
        .bind(id.clone()),
        Filter::Trace(id) => sqlx::query_as(bounded!(
            "SELECT seq, body, hash FROM journal WHERE trace_id = $1 ORDER BY seq LIMIT $2",
            "$3"
        ))
        .bind(id.clone()),
        Filter::Key(hash) => sqlx::query_as(BY_KEY).bind(hash.to_vec()),
    };
    let rows: Vec<Row> = query.bind(limit).bind(PAGE_BYTES).fetch_all(connection).await?;
    let more = is_full(&rows, limit);
    Ok(Page {
        service: service.to_owned(),
        items: rows.into_iter().map(Item::of).collect(),
        next: None,
        more,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_read_from_its_text_and_junk_is_refused() {
        for good in ["1:1:", "10:20:10,15", "1:1:~740:740:~99", "2@10:20:", "1@1:1:~740:740:~99"] {
            assert_eq!(good.parse::<Cursor>().unwrap().to_string(), good);
        }
        for bad in [
            "",
            "1",
            "1:1",
            "2:1:",
            "0:1:",
            "1:5:7",
            "1:9:5,3",
            "1:1:~1:1:",
            "1:1:~x~1",
            "1:1:~1:1:~1~2",
            "0@1:1:",
            "-1@1:1:",
            "x@1:1:",
            "1@",
            "1@1@1:1:",
        ] {
            assert_eq!(bad.parse::<Cursor>(), Err(InvalidCursor), "{bad}");
        }
    }
}
