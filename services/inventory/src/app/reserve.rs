//! Reserving stock for an order, all lines or none.

use super::{App, CommandContext, CommandError, CommandResult};
use crate::domain::NewReservation;

impl App {
    /// Holds the lines, or refuses them for good with the reason. [`reserve`](crate::domain::decisions::reserve) decides.
    pub async fn reserve(
        &self,
        context: CommandContext,
        new: NewReservation,
    ) -> Result<CommandResult, CommandError> {
        self.store.reserve(context, new).await
    }
}
