//! Expiring holds: their stock is given back after their end.
//!
//! Due holds are expired in batches. A hold may fail to expire, because its row cannot be read, because the database
//! refuses the write, or because another transaction keeps its items locked. It does not delay the others: the holds of
//! its batch are expired one by one, and it is set aside for a growing time.

use std::collections::HashSet;

use chassis::tasks::caught;
use journal::DatabaseError;
use uuid::Uuid;

use super::App;
use crate::store::{DueCursor, Expired};

/// Principal of the periodic sweep.
pub const SWEEP: &str = "sweep:expiry";

/// Holds expired in one transaction. An entry takes about 0.3 ms, so one batch keeps its items locked for some 15 ms.
const BATCH: i64 = 50;

impl App {
    /// Expires every due hold that no other transaction has locked, in the name of `principal`, and gives their number. Any
    /// number of processes may do this at once.
    pub async fn expire_due(&self, principal: &str) -> Result<u64, DatabaseError> {
        let (mut total, mut met) = (0, HashSet::new());
        let mut cursor = Some(DueCursor::start());
        while let Some(from) = cursor {
            let (mut ids, next) = self.store.due(&from, BATCH).await?;
            let is_last = ids.len() < usize::try_from(BATCH).unwrap_or(usize::MAX);
            met.extend(ids.iter().copied());
            ids.retain(|id| !self.aside.is_waiting(*id));
            if !ids.is_empty() {
                total += self.expire_all(&ids, principal).await?;
            }
            cursor = next.filter(|_| !is_last);
        }
        self.aside.keep(&met);
        Ok(total)
    }

    /// Makes every hold that was set aside due for the next sweep.
    pub fn try_now(&self) {
        self.aside.try_now();
    }

    /// Expires holds in one transaction, and one by one if that fails.
    async fn expire_all(&self, ids: &[Uuid], principal: &str) -> Result<u64, DatabaseError> {
        // A panic over one hold is that hold's failure, and ends no sweep.
        let refusal = match caught(self.store.expire(ids, principal)).await {
            Ok(Ok(Expired { count, unreadable })) => {
                self.aside.forget(ids.iter().filter(|id| !unreadable.contains(id)));
                for id in unreadable {
                    self.aside.put(id, None);
                }
                return Ok(count);
            }
            Ok(Err(DatabaseError::Defect(cause))) => Some(cause.to_string()),
            Ok(Err(DatabaseError::Busy(_))) => None,
            // The error concerns every hold.
            Ok(Err(error)) => return Err(error),
            Err(panic) => Some(panic.to_string()),
        };
        if let [id] = ids {
            self.aside.put(*id, refusal);
            return Ok(0);
        }
        let mut total = 0;
        for id in ids {
            total += Box::pin(self.expire_all(std::slice::from_ref(id), principal)).await?;
        }
        Ok(total)
    }
}
