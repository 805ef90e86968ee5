//! Reading: items, reservations, and what is held.

use std::time::Duration;

use journal::DatabaseError;
use tokio::time::Instant;
use uuid::Uuid;

use super::Inventory;
use crate::domain::stock::Sku;
use crate::store;
use crate::store::items::Listed;
use crate::store::reservations::Reservation;

/// How many are held, and for how long the most overdue of them should not have been.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Held {
    /// Reservations in `held`.
    pub count: i64,
    /// Seconds since the oldest end that was not acted on; 0 when nothing is due.
    pub overdue_seconds: f64,
}

/// The time that counting may take. It reads one partial index.
const LONGEST_COUNT: Duration = Duration::from_secs(2);

impl Inventory {
    /// An item.
    pub async fn item(&self, sku: &Sku, deadline: Instant) -> Result<Option<Listed>, DatabaseError> {
        let read = self
            .0
            .database
            .read(Some(deadline), sku, |connection, sku| Box::pin(store::items::read(connection, sku)));
        read.await
    }

    /// At most `limit` items with SKUs after `after`, in byte order.
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

    /// A reservation, as it stands: `expired` only once it is.
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

    /// What is held.
    pub async fn held(&self) -> Result<Held, DatabaseError> {
        let deadline = Some(Instant::now() + LONGEST_COUNT);
        let read =
            self.0.database.read(deadline, (), |connection, ()| Box::pin(store::status::held(connection)));
        let (count, overdue_seconds) = read.await?;
        Ok(Held { count, overdue_seconds })
    }
}
