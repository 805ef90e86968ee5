//! Reading orders and their history.

use journal::feed::{self, Filter};
use journal::{DatabaseError, Entry};
use tokio::time::Instant;
use uuid::Uuid;

use super::App;
use crate::store::{Order, Page, orders, pages};

/// More transitions than any order has: the longest path has 6. So few come to less than a page's bytes, too.
const HISTORY_LIMIT: i64 = 1_000;

impl App {
    /// One order; with `principal`, only that principal's.
    pub async fn order(
        &self,
        deadline: Instant,
        id: Uuid,
        principal: Option<&str>,
    ) -> Result<Option<Order>, DatabaseError> {
        self.database
            .read(Some(deadline), (id, principal), |connection, &(id, principal)| {
                Box::pin(orders::get(connection, id, principal))
            })
            .await
    }

    /// A page of orders, and where to go on if there may be more.
    pub async fn orders(
        &self,
        deadline: Instant,
        page: &Page,
    ) -> Result<(Vec<Order>, Option<Uuid>), DatabaseError> {
        self.database
            .read(Some(deadline), page, |connection, page| Box::pin(pages::list(connection, page)))
            .await
    }

    /// Every entry of one order, oldest first.
    pub async fn history(&self, deadline: Instant, id: Uuid) -> Result<Vec<Entry<'static>>, DatabaseError> {
        let wanted = (self.journal.service(), Filter::Aggregate(id));
        let page = self
            .database
            .read(Some(deadline), wanted, |connection, (service, filter)| {
                Box::pin(feed::find(connection, service, filter, HISTORY_LIMIT))
            })
            .await?;
        let entries = page.items.iter().map(|item| serde_json::from_str(item.entry.get()));
        entries
            .collect::<Result<_, _>>()
            .map_err(|e| DatabaseError::Defect(sqlx::Error::Decode(e.into()).into()))
    }
}
