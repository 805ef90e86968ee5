//! Creating an item.

use journal::{Decided, Keys};
use sqlx::PgConnection;
use uuid::Uuid;

use super::execute::{Command, CommandContext, CommandResult, Moved, Written};
use super::{Answer, Ask, Failure, Inventory, Refusal, Reply};
use crate::domain::item::item_id;
use crate::domain::rules;
use crate::domain::stock::{ItemName, OpeningStock, Sku, Stock};
use crate::store::{StoredHead, items};

/// The command to create an item.
#[derive(Debug, Clone)]
pub struct CreateItem {
    /// SKU of the item.
    pub sku: Sku,
    /// Name of the item.
    pub name: ItemName,
    /// Pieces on hand at the beginning.
    pub on_hand: OpeningStock,
}

impl Inventory {
    /// Creates an item, unless an item with this SKU exists.
    pub async fn create_item(&self, ask: Ask, command: CreateItem) -> Result<Reply, Failure> {
        self.execute(ask, command).await
    }
}

impl Command for CreateItem {
    const NAME: &'static str = "create_item";

    fn aggregate_id(&self) -> Uuid {
        item_id(&self.sku)
    }

    async fn carry_out(
        &self,
        context: &CommandContext,
        connection: &mut PgConnection,
    ) -> Result<CommandResult, sqlx::Error> {
        if let Some(known) = items::read(connection, &self.sku).await? {
            let answer = Answer::Refused(Refusal::SkuExists(self.sku.clone()));
            return Ok(CommandResult::Settled {
                answer,
                entry_id: known.entry_id,
                decided_at: known.hlc.parse().ok(),
            });
        }
        let rule = rules::CreateItem {
            sku: self.sku.clone(),
            name: self.name.clone(),
            quantity: self.on_hand,
            state: None,
        };
        let (to, decided) = Decided::by(&rule);
        let sealed = context.seal(decided, None);
        let new = items::Item {
            sku: self.sku.to_string(),
            name: self.name.as_str().to_owned(),
            stock: Stock { version: sealed.version, on_hand: self.on_hand.get(), held: 0 },
            head: StoredHead::of(&sealed),
        };
        let reply = context.render(&Answer::Created(new));
        let keys = Keys::Record(&[(&context.claim, &reply)]);
        items::create(connection, &self.sku, &self.name, self.on_hand, &sealed, keys).await?;
        Ok(CommandResult::Written(Written { reply, entry_id: sealed.id, moved: Moved::to(to) }))
    }
}
