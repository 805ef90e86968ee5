//! Reads of items and reservations, and figures for operators.

use journal::DatabaseError;
use tokio::time::Instant;
use uuid::Uuid;

use super::App;
use crate::domain::Item;
use crate::domain::stock::Sku;
use crate::store::{Held, Holder, Share, StoredReservation};

impl App {
    /// Reads a reservation in its present status.
    pub async fn reservation(
        &self,
        id: Uuid,
        deadline: Instant,
    ) -> Result<Option<StoredReservation>, DatabaseError> {
        self.store.reservation(id, deadline).await
    }

    /// Reads an item.
    pub async fn item(&self, sku: &Sku, deadline: Instant) -> Result<Option<Item>, DatabaseError> {
        self.store.item(sku, deadline).await
    }

    /// Reads at most `limit` items with SKUs after `after`, in byte order.
    pub async fn items(
        &self,
        after: &str,
        limit: i64,
        deadline: Instant,
    ) -> Result<Vec<Item>, DatabaseError> {
        self.store.items(after, limit, deadline).await
    }

    /// Reads which reservations took an item's stock: the sums by status, and at most `limit` of them.
    pub async fn holders(
        &self,
        sku: &Sku,
        limit: i64,
        deadline: Instant,
    ) -> Result<(Vec<Share>, Vec<Holder>), DatabaseError> {
        self.store.holders(sku, limit, deadline).await
    }

    /// Counts the held reservations.
    pub async fn held(&self) -> Result<Held, DatabaseError> {
        self.store.held().await
    }
}
