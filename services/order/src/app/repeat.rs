//! A request whose idempotency key is taken: it gets the stored reply, or 202 while there is none.

use super::{App, CommandContext, CommandError, CommandResult, OrderView};
use crate::domain::Status;
use crate::store::StoredOrder;

impl App {
    /// Answers a request whose key is taken.
    pub(super) async fn repeat(
        &self,
        command: &CommandContext,
        name: &'static str,
    ) -> Result<CommandResult, CommandError> {
        let deadline = Some(command.driver.context.deadline.instant());
        let found = self.store.find_by_key(&command.driver.cause.principal, command.key_hash, deadline).await;
        // The transaction of the other claim was rolled back, so no request holds the key. The client can repeat.
        let Some((row, order)) = found.map_err(CommandError::KeyUnreadable)? else {
            return Err(CommandError::InFlight);
        };
        if row.fingerprint != command.fingerprint {
            return Err(CommandError::KeyReused);
        }
        match (row.reply, order) {
            (Some(reply), _) => Ok(CommandResult::Replayed(reply)),
            (None, Some(order)) if carries_out(&order, name) => Err(CommandError::InFlight),
            (None, Some(order)) => Ok(CommandResult::Pending(OrderView::from(&order))),
            (None, None) => Err(CommandError::NotFound),
        }
    }

    /// The reply that is stored under the command's key by now, or the order's present state.
    pub(super) async fn settled(&self, command: &CommandContext) -> Result<CommandResult, CommandError> {
        let found = self.store.find_by_key(&command.driver.cause.principal, command.key_hash, None).await?;
        match found.map(|(row, order)| (row.reply, order)) {
            Some((Some(reply), _)) => Ok(CommandResult::Final(reply)),
            Some((None, Some(order))) => Ok(CommandResult::Pending(OrderView::from(&order))),
            Some((None, None)) | None => Err(CommandError::NotFound),
        }
    }
}

/// True if a request is in flight on `order` and carries out the command `name`.
fn carries_out(order: &StoredOrder, name: &str) -> bool {
    let step = order.status.known().and_then(Status::step);
    order.in_flight && step.is_some_and(|step| step.command() == name)
}
