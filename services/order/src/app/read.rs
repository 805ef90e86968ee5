//! Reads of orders and of their history.

use journal::feed::{self, Filter};
use journal::{DatabaseError, Entry};
use tokio::time::Instant;
use uuid::Uuid;

use super::App;
use crate::store::pages::Found;
use crate::store::{Page, StoredOrder, orders, pages};

/// Limit on entries of one history. It is more than any order has: the longest path has 6 transitions, which are also
/// fewer bytes than a page may have.
const HISTORY_LIMIT: i64 = 1_000;

impl App {
    /// Reads one order. With `principal`, only an order of that principal is found.
    pub async fn order(
        &self,
        deadline: Instant,
        id: Uuid,
        principal: Option<&str>,
    ) -> Result<Option<StoredOrder>, DatabaseError> {
        self.database
            .read(Some(deadline), (id, principal), |connection, &(id, principal)| {
                Box::pin(orders::get(connection, id, principal))
            })
            .await
            .inspect_err(|error| {
                if let DatabaseError::Defect(cause) = error {
                    self.unreadable.note("orders", id, cause);
                }
            })
    }

    /// Reads a page of orders.
    pub async fn orders(&self, deadline: Instant, page: &Page) -> Result<Found, DatabaseError> {
        let found = self
            .database
            .read(Some(deadline), page, |connection, page| Box::pin(pages::list(connection, page)))
            .await?;
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
        let wanted = (self.journal.service(), Filter::Aggregate(id));
        let page = self
            .database
            .read(Some(deadline), wanted, |connection, (service, filter)| {
                Box::pin(feed::find(connection, service, filter, HISTORY_LIMIT))
            })
            .await?;
        let entries = page.items.iter().map(|item| {
            serde_json::from_str(item.entry.get()).map_err(|fault| {
                self.unreadable.note("journal", item.seq, &fault);
                (item.seq, fault.to_string())
            })
        });
        Ok(entries.collect())
    }
}
