//! Releasing a reservation: its stock is given back, or a late reserve is made to hold none.

use uuid::Uuid;

use super::{App, CommandContext, CommandError, CommandResult};
use crate::domain::decisions;
use crate::store::ChangeReservation;

impl App {
    /// Releases a held reservation and voids an unknown one. A confirmed reservation is refused; any other keeps its state.
    pub async fn release(&self, context: CommandContext, id: Uuid) -> Result<CommandResult, CommandError> {
        let release = ChangeReservation { name: "release", id, decide: decisions::release };
        self.store.execute(context, release).await
    }
}
