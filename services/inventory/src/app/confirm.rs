//! Confirming a reservation: its held stock is shipped.

use uuid::Uuid;

use super::{App, CommandContext, CommandError, CommandResult};
use crate::domain::decisions;
use crate::store::ChangeReservation;

impl App {
    /// Confirms a hold that has not ended. A hold that has ended is expired in the same transaction, if the sweep has not
    /// done so yet.
    pub async fn confirm(&self, context: CommandContext, id: Uuid) -> Result<CommandResult, CommandError> {
        let confirm = ChangeReservation { name: "confirm", id, decide: decisions::confirm };
        self.store.execute(context, confirm).await
    }
}
