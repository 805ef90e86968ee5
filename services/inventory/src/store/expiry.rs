//! Holds that have ended: finding them, and expiring a batch of them in one transaction.

use std::sync::Arc;

use journal::{Cause, DatabaseError, Decided, Draft, Keys, Sealed, State as _, Step};
use sqlx::{FromRow as _, PgConnection, Row as _};
use time::OffsetDateTime;
use uuid::Uuid;

use super::Store;
use super::commands::count_entries;
use super::reservations::{Locked, StoredReservation, columns, leave_held};
use crate::domain::decisions::expire;
use crate::domain::{Reservation, Status};

/// Due holds are found by the time at which the transaction began, because the index can be
/// searched by it. Pages are sorted by (end, id), so that a sweep gets past any number of rows that stay due because they
/// cannot be expired.
const DUE: &str = "SELECT id, expires_at::text FROM reservations
    WHERE status = 'held' AND expires_at <= now() AND (expires_at, id) > ($1::text::timestamptz, $2)
    ORDER BY expires_at, id LIMIT $3";

/// The clock is read after the lock.
const LOCK_DUE: &str = concat!(
    "SELECT clock_timestamp() AS now, r.* FROM (SELECT ",
    columns!(),
    " FROM reservations WHERE id = ANY ($1) AND status = 'held' AND expires_at <= now()
      ORDER BY id FOR NO KEY UPDATE SKIP LOCKED) r"
);

pub(super) const STATEMENTS: [(&str, &str); 2] = [("expiry::DUE", DUE), ("expiry::LOCK_DUE", LOCK_DUE)];

/// Position of a pass over the due holds: end and id of the last hold. The end is text because it may be infinite.
#[derive(Debug, Clone)]
pub struct DueCursor(String, Uuid);

impl DueCursor {
    /// The position before the first hold.
    pub fn start() -> Self {
        Self("-infinity".to_owned(), Uuid::nil())
    }
}

/// Result of expiring a batch of holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Expired {
    /// Number of the holds that were expired.
    pub count: u64,
    /// Holds whose rows this release cannot read.
    pub unreadable: Vec<Uuid>,
}

/// A due hold, or the id and fault of a row that cannot be read.
type Due = Result<Locked, (Uuid, String)>;

impl Store {
    /// Finds at most `limit` due holds after `cursor`, and the position of the last one.
    pub async fn due(
        &self,
        cursor: &DueCursor,
        limit: i64,
    ) -> Result<(Vec<Uuid>, Option<DueCursor>), DatabaseError> {
        let read = self.database.read(None, (cursor, limit), |connection, (cursor, limit)| {
            Box::pin(sqlx::query_as(DUE).bind(&cursor.0).bind(cursor.1).bind(limit).fetch_all(connection))
        });
        let rows: Vec<(Uuid, String)> = read.await?;
        let next = rows.last().map(|(id, end)| DueCursor(end.clone(), *id));
        Ok((rows.into_iter().map(|(id, _)| id).collect(), next))
    }

    /// Expires in one transaction the holds of `ids` that are due, in the name of `principal`, without those that another
    /// transaction has locked.
    pub async fn expire(&self, ids: &[Uuid], principal: &str) -> Result<Expired, DatabaseError> {
        let run =
            self.database.hurried(None, (self, ids, principal), |connection, &(store, ids, principal)| {
                Box::pin(store.expire_locked(ids, principal, connection))
            });
        let (count, unreadable) = run.await?;
        for (id, fault) in &unreadable {
            self.unreadable.note("reservations", id, fault);
        }
        count_entries(Status::KIND, Status::Expired.as_str(), count);
        Ok(Expired { count, unreadable: unreadable.into_iter().map(|(id, _)| id).collect() })
    }

    async fn expire_locked(
        &self,
        ids: &[Uuid],
        principal: &str,
        connection: &mut PgConnection,
    ) -> Result<Step<(u64, Vec<(Uuid, String)>)>, sqlx::Error> {
        let (mut due, mut unreadable) = (Vec::new(), Vec::new());
        for row in lock_due(connection, ids).await? {
            match row {
                Ok(hold) => due.push(hold),
                Err(fault) => unreadable.push(fault),
            }
        }
        let Some(now) = due.iter().map(|hold: &Locked| hold.now).max() else {
            return Ok(Step::Rollback((0, unreadable)));
        };
        let ended: Vec<_> =
            due.iter().filter_map(|hold| self.decide_expiry(&hold.stored, hold.now, principal)).collect();
        let moves: Vec<_> = ended.iter().map(|(after, sealed)| (after, sealed)).collect();
        leave_held(connection, &moves, now, Keys::Leave).await?;
        Ok(Step::Commit((moves.len() as u64, unreadable)))
    }

    /// Decides and seals the expiry of one hold; `None` when it is not due. The cause is the entry of the hold, and the
    /// correlation id belongs to the request that asked for the hold.
    fn decide_expiry(
        &self,
        stored: &StoredReservation,
        now: OffsetDateTime,
        principal: &str,
    ) -> Option<(Reservation, Sealed)> {
        let (rule, after) = expire(&stored.reservation, now)?;
        let (_, decided) = Decided::by(&rule);
        let sealed = self.journal.seal(Draft {
            aggregate_id: after.id,
            head: self.chain(Some(&stored.head)),
            command: "expire",
            cause: &Cause {
                principal: principal.into(),
                key_hash: None,
                correlation_id: Arc::clone(&stored.correlation_id),
                trace_id: None,
            },
            causation_id: Some(stored.head.entry_id),
            decided,
            attempt: 1,
            evidence: chassis::evidence(&mainstay::DecisionTrail::new(), None),
            payload_hash: None,
        });
        Some((after, sealed))
    }
}

/// Locks the holds of `ids` that are still due, without those that another transaction has locked.
async fn lock_due(connection: &mut PgConnection, ids: &[Uuid]) -> Result<Vec<Due>, sqlx::Error> {
    let rows = sqlx::query(LOCK_DUE).bind(ids).fetch_all(connection).await?;
    rows.iter()
        .map(|row| {
            let id = row.try_get("id")?;
            Ok(Locked::from_row(row).map_err(|fault| (id, fault.to_string())))
        })
        .collect()
}
