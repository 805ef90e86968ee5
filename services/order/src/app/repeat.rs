//! A request whose idempotency key is taken: it gets the stored reply, or 202 while there is none.

use journal::DatabaseError;
use journal::idempotency::{KeyRow, look};
use tokio::time::Instant;

use super::{App, Caller, Done, Refused, replies};
use crate::domain::rules::Wish;
use crate::domain::status::Step;
use crate::store::{Order, StoredOrder, orders};

impl App {
    /// Answers a request whose key is taken.
    pub(super) async fn repeat(&self, caller: &Caller, command: &'static str) -> Result<Done, Refused> {
        let (row, order) =
            self.find_key(caller, Some(caller.context.deadline.instant())).await.map_err(Refused::Unread)?;
        // The transaction of the other claim was rolled back, so no request holds the key. The client can repeat.
        let Some(row) = row else { return Err(Refused::InFlight) };
        if row.fingerprint != caller.fingerprint {
            return Err(Refused::KeyReused);
        }
        match (row.reply, order) {
            (Some(reply), _) => Ok(Done::Replayed(reply)),
            (None, Some(order)) => match Done::pending(order) {
                Done::Pending(order) if order.in_flight && works_on(&order, command) => {
                    Err(Refused::InFlight)
                }
                done => Ok(done),
            },
            (None, None) => Err(Refused::NotFound),
        }
    }

    /// The reply that is stored under the caller's key by now, or the order's present state.
    pub(super) async fn settled(&self, caller: &Caller) -> Result<Done, Refused> {
        match self.find_key(caller, None).await? {
            (Some(KeyRow { reply: Some(reply), .. }), _) => Ok(Done::Final(reply)),
            (_, Some(order)) => Ok(Done::pending(order)),
            (_, None) => Err(Refused::NotFound),
        }
    }

    async fn find_key(
        &self,
        caller: &Caller,
        deadline: Option<Instant>,
    ) -> Result<(Option<KeyRow>, Option<StoredOrder>), DatabaseError> {
        self.database
            .read(deadline, caller, |connection, caller| {
                Box::pin(async move {
                    let row = look(connection, &caller.cause.principal, &caller.key_hash).await?;
                    let order = match &row {
                        Some(row) if row.reply.is_none() => {
                            orders::get(connection, row.aggregate_id, None).await?
                        }
                        _ => None,
                    };
                    Ok((row, order))
                })
            })
            .await
    }
}

/// True if the request that is in flight on `order` carries out `command`.
fn works_on(order: &Order, command: &str) -> bool {
    order.status.step().is_some_and(|step| {
        command
            == match step {
                Step::Reserve => replies::PLACE,
                Step::Confirm => Wish::Confirm.as_str(),
                Step::Release => Wish::Cancel.as_str(),
            }
    })
}
