//! Receiving stock.

use journal::{Decided, Keys};
use sqlx::PgConnection;
use uuid::Uuid;

use super::execute::{Command, CommandContext, CommandResult, Moved, Written};
use super::{Answer, Ask, Failure, Inventory, Refusal, Reply};
use crate::domain::item::{ItemState, item_id};
use crate::domain::rules;
use crate::domain::stock::{Quantity, Sku, Stock};
use crate::store::{StoredHead, items};

/// The command to add received pieces to an item.
#[derive(Debug, Clone)]
pub struct Receive {
    /// SKU of the item.
    pub sku: Sku,
    /// Number of received pieces.
    pub quantity: Quantity,
}

impl Inventory {
    /// Adds the pieces to the item's stock.
    pub async fn receive(&self, ask: Ask, command: Receive) -> Result<Reply, Failure> {
        self.execute(ask, command).await
    }
}

impl Command for Receive {
    const NAME: &'static str = "receive";

    fn aggregate_id(&self) -> Uuid {
        item_id(&self.sku)
    }

    async fn carry_out(
        &self,
        context: &CommandContext,
        connection: &mut PgConnection,
    ) -> Result<CommandResult, sqlx::Error> {
        let Some(known) = items::lock(connection, &self.sku).await? else {
            return Ok(CommandResult::Passing(Refusal::NoItem(self.sku.clone())));
        };
        if context.is_late() {
            return Ok(CommandResult::TooLate);
        }
        let rule = rules::Receive {
            sku: self.sku.clone(),
            quantity: self.quantity,
            state: ItemState::Stocked,
            stock: known.stock,
        };
        let (to, decided) = Decided::by(&rule);
        let sealed = context.seal(decided, Some((rule.state, &known.head)));
        let stock = Stock {
            version: sealed.version,
            on_hand: known.stock.on_hand + self.quantity.get(),
            held: known.stock.held,
        };
        let reply =
            context.render(&Answer::Received(items::Item { stock, head: StoredHead::of(&sealed), ..known }));
        let keys = Keys::Record(&[(&context.claim, &reply)]);
        items::receive(connection, &self.sku, self.quantity, &sealed, keys).await?;
        Ok(CommandResult::Written(Written { reply, entry_id: sealed.id, moved: Moved::to(to) }))
    }
}
