//! Reads of items and reservations, and the count of held reservations.

use std::time::Duration;

use journal::DatabaseError;
use tokio::time::Instant;
use uuid::Uuid;

use super::Inventory;
use crate::domain::stock::Sku;
use crate::store;
use crate::store::items::Listed;
use crate::store::reservations::Reservation;

/// Number of held reservations, and the age of the most overdue one.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Held {
    /// Number of reservations in `held`.
    pub count: i64,
    /// Seconds since the earliest end of a hold that has not been expired; 0 when no hold is due.
    pub overdue_seconds: f64,
}

/// The longest time for a count. It reads one partial index.
const LONGEST_COUNT: Duration = Duration::from_secs(2);

impl Inventory {
    /// Reads an item.
    pub async fn item(&self, sku: &Sku, deadline: Instant) -> Result<Option<Listed>, DatabaseError> {
        let read = self
            .0
            .database
            .read(Some(deadline), sku, |connection, sku| Box::pin(store::items::read(connection, sku)));
        read.await
    }

    /// Reads at most `limit` items with SKUs after `after`, in byte order.
    pub async fn items(
        &self,
        after: &str,
        limit: i64,
        deadline: Instant,
    ) -> Result<Vec<Listed>, DatabaseError> {
        let read = self.0.database.read(Some(deadline), (after, limit), |connection, (after, limit)| {
            Box::pin(store::items::page(connection, after, *limit))
        });
        read.await
    }

    /// Reads a reservation in its present state. It is `expired` only after the expiry is committed.
    pub async fn reservation(
        &self,
        id: Uuid,
        deadline: Instant,
    ) -> Result<Option<Reservation>, DatabaseError> {
        let read = self
            .0
            .database
            .read(Some(deadline), id, |connection, id| Box::pin(store::reservations::read(connection, *id)));
        read.await.inspect_err(|error| {
            if let DatabaseError::Defect(cause) = error {
                self.0.unreadable.note("reservations", id, cause);
            }
        })
    }

    /// Counts the held reservations.
    pub async fn held(&self) -> Result<Held, DatabaseError> {
        let deadline = Some(Instant::now() + LONGEST_COUNT);
        let read =
            self.0.database.read(deadline, (), |connection, ()| Box::pin(store::status::held(connection)));
        let (count, overdue_seconds) = read.await?;
        Ok(Held { count, overdue_seconds })
    }
}
