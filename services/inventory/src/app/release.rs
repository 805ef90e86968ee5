//! Releasing a reservation: its stock is given back, or a late reserve is made to hold none.

use uuid::Uuid;

use super::{App, CommandContext, CommandError, CommandResult};
use crate::domain::decisions;

impl App {
    /// Releases a held reservation and voids an unknown one. A confirmed reservation is refused; any other keeps its state.
    pub async fn release(&self, context: CommandContext, id: Uuid) -> Result<CommandResult, CommandError> {
        self.store.change_reservation(context, "release", id, decisions::release).await
    }
}
