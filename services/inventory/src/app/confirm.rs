//! Confirming a reservation: its held stock is shipped.

use uuid::Uuid;

use super::{App, CommandContext, CommandError, CommandResult};
use crate::domain::decisions;

impl App {
    /// Confirms a hold that has not ended. A hold that has ended is expired in the same transaction, if the sweep has not
    /// done so yet.
    pub async fn confirm(&self, context: CommandContext, id: Uuid) -> Result<CommandResult, CommandError> {
        self.store.change_reservation(context, "confirm", id, decisions::confirm).await
    }
}
