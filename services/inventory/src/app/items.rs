//! Creating an item, and receiving stock of it.

use super::{App, CommandContext, CommandError, CommandResult};
use crate::domain::{NewItem, Receipt};

impl App {
    /// Creates an item, unless an item with this SKU exists.
    pub async fn create_item(
        &self,
        context: CommandContext,
        new: NewItem,
    ) -> Result<CommandResult, CommandError> {
        self.store.execute(context, new).await
    }

    /// Adds the pieces to the item's stock.
    pub async fn receive(
        &self,
        context: CommandContext,
        receipt: Receipt,
    ) -> Result<CommandResult, CommandError> {
        self.store.execute(context, receipt).await
    }
}
