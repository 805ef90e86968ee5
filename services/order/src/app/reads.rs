//! Reads of orders and of their history. A row that this release cannot read is noted for readiness.

use journal::{DatabaseError, Entry};
use tokio::time::Instant;
use uuid::Uuid;

use super::App;
use crate::store::{FoundOrders, Page, StoredOrder};

impl App {
    /// Reads one order. With `principal`, only an order of that principal is found.
    pub async fn order(
        &self,
        deadline: Instant,
        id: Uuid,
        principal: Option<&str>,
    ) -> Result<Option<StoredOrder>, DatabaseError> {
        self.store.find(Some(deadline), id, principal).await.inspect_err(|error| {
            if let DatabaseError::Defect(cause) = error {
                self.unreadable.note("orders", id, cause);
            }
        })
    }

    /// Reads a page of orders.
    pub async fn orders(&self, deadline: Instant, page: &Page) -> Result<FoundOrders, DatabaseError> {
        let found = self.store.list(Some(deadline), page).await?;
        for fault in &found.unreadable {
            self.unreadable.note("orders", fault.id, &fault.why);
        }
        Ok(found)
    }

    /// Reads every entry of one order, oldest first. An entry that this release cannot read is given as its number and its
    /// fault.
    pub async fn history(
        &self,
        deadline: Instant,
        id: Uuid,
    ) -> Result<Vec<Result<Entry<'static>, (i64, String)>>, DatabaseError> {
        let entries = self.store.history(deadline, id).await?;
        for (seq, fault) in entries.iter().filter_map(|entry| entry.as_ref().err()) {
            self.unreadable.note("journal", seq, fault);
        }
        Ok(entries)
    }
}
