//! Reader of a journal and of the columns beside its entries.

use std::collections::HashMap;

use journal::Entry;
use journal::feed::{self, Cursor, Page};
use sqlx::PgConnection;
use uuid::Uuid;

use super::DumpError;
use crate::{HiddenRow, JournalRow, MiscopiedRow, Recorded, Side, Unreadable};

/// Journal entries per page.
const PAGE: i64 = 1_000;

/// Reads the journal in commit order.
pub(super) async fn read(connection: &mut PgConnection, side: Side) -> Result<Vec<JournalRow>, DumpError> {
    let (mut journal, mut cursor) = (Vec::new(), Cursor::start());
    loop {
        let Page { items, next, more, .. } =
            feed::read(&mut *connection, side.as_str(), cursor, PAGE).await??;
        journal.extend(items.iter().map(JournalRow::of));
        match next.filter(|_| more) {
            Some(next) => cursor = next.parse()?,
            None => break,
        }
    }
    locate(connection, &mut journal).await?;
    Ok(journal)
}

/// Names the aggregates of unreadable entries, by the columns beside their bodies.
async fn locate(connection: &mut PgConnection, journal: &mut [JournalRow]) -> Result<(), sqlx::Error> {
    let mut unreadable: HashMap<i64, &mut Unreadable> = journal
        .iter_mut()
        .filter_map(|row| match row {
            JournalRow::Entry(_) => None,
            JournalRow::Unreadable(row) => Some((row.seq, &mut **row)),
        })
        .collect();
    if unreadable.is_empty() {
        return Ok(());
    }
    let seqs: Vec<i64> = unreadable.keys().copied().collect();
    let known: Vec<(i64, Uuid, Uuid, String, i64)> = sqlx::query_as(
        "SELECT seq, id, aggregate_id, aggregate_kind, version FROM journal WHERE seq = ANY($1)",
    )
    .bind(seqs)
    .fetch_all(connection)
    .await?;
    for (seq, id, aggregate, kind, version) in known {
        if let Some(row) = unreadable.get_mut(&seq) {
            (row.id, row.aggregate, row.kind, row.version) =
                (Some(id), Some(aggregate), Some(kind), Some(version));
        }
    }
    Ok(())
}

/// Finds the first 10 rows of the journal's table that the feed did not give.
pub(super) async fn hidden(
    connection: &mut PgConnection,
    given: &[JournalRow],
) -> Result<Vec<HiddenRow>, sqlx::Error> {
    let given: Vec<i64> = given.iter().map(JournalRow::seq).collect();
    let rows: Vec<(i64, Uuid, i64)> = sqlx::query_as(
        "SELECT seq, aggregate_id, version FROM journal j
         WHERE NOT EXISTS (SELECT FROM unnest($1::bigint[]) AS given (seq) WHERE given.seq = j.seq)
         ORDER BY seq LIMIT 10",
    )
    .bind(given)
    .fetch_all(connection)
    .await?;
    let row = |(seq, aggregate, version)| HiddenRow { seq, aggregate, version };
    Ok(rows.into_iter().map(row).collect())
}

/// The columns of an entry that are copies of members of its body.
struct Copies {
    seq: i64,
    id: Uuid,
    aggregate_kind: String,
    aggregate_id: Uuid,
    version: i64,
    from_state: String,
    to_state: String,
    correlation_id: String,
    trace_id: Option<String>,
    key_hash: Option<String>,
}

journal::from_row!(Copies {
    seq,
    id,
    aggregate_kind,
    aggregate_id,
    version,
    from_state,
    to_state,
    correlation_id,
    trace_id,
    key_hash
});

impl Copies {
    /// The columns that differ from `entry`.
    fn faults(&self, entry: &Entry<'_>) -> Vec<String> {
        let pairs = [
            ("id", self.id == entry.id),
            ("aggregate_kind", *self.aggregate_kind == *entry.aggregate_kind),
            ("aggregate_id", self.aggregate_id == entry.aggregate_id),
            ("version", self.version == entry.version),
            ("from_state", *self.from_state == *entry.from),
            ("to_state", *self.to_state == *entry.to),
            ("correlation_id", *self.correlation_id == *entry.correlation_id),
            ("trace_id", self.trace_id.as_deref() == entry.trace_id.as_deref()),
            ("key_hash", self.key_hash.as_deref() == entry.key_hash.as_deref()),
        ];
        pairs.into_iter().filter(|(_, same)| !same).map(|(column, _)| column.to_owned()).collect()
    }
}

/// The entries with a column that differs from its body.
pub(super) async fn miscopied(
    connection: &mut PgConnection,
    journal: &[JournalRow],
) -> Result<Vec<MiscopiedRow>, sqlx::Error> {
    let entries: HashMap<i64, &Recorded> = journal
        .iter()
        .filter_map(|row| match row {
            JournalRow::Entry(recorded) => Some((recorded.seq, recorded)),
            JournalRow::Unreadable(_) => None,
        })
        .collect();
    let rows = sqlx::query_as::<_, Copies>(
        "SELECT seq, id, aggregate_kind, aggregate_id, version, from_state, to_state, correlation_id, trace_id,
             encode(key_hash, 'hex') AS key_hash FROM journal",
    )
    .fetch_all(connection)
    .await?;
    let mut miscopied = Vec::new();
    for row in rows {
        let Some(Recorded { entry, .. }) = entries.get(&row.seq) else { continue };
        let columns = row.faults(entry);
        if !columns.is_empty() {
            let (aggregate, version) = (entry.aggregate_id, entry.version);
            miscopied.push(MiscopiedRow { seq: row.seq, aggregate, version, columns });
        }
    }
    Ok(miscopied)
}
