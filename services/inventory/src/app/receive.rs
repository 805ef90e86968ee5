//! Receiving stock.

use journal::{Decided, Keys};
use sqlx::PgConnection;
use uuid::Uuid;

use super::execute::{Command, Ending, Moved, Scene, Written};
use super::{Answer, Ask, Failure, Inventory, Refusal, Reply};
use crate::domain::item::{ItemState, item_id};
use crate::domain::rules;
use crate::domain::stock::{Quantity, Sku, Stock};
use crate::store::{Newest, items};

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

    async fn carry_out(&self, scene: &Scene, connection: &mut PgConnection) -> Result<Ending, sqlx::Error> {
        let Some(known) = items::lock(connection, &self.sku).await? else {
            return Ok(Ending::Passing(Refusal::NoItem(self.sku.clone())));
        };
        if scene.is_late() {
            return Ok(Ending::TooLate);
        }
        let rule = rules::Receive {
            sku: self.sku.clone(),
            quantity: self.quantity,
            state: ItemState::Stocked,
            stock: known.stock,
        };
        let (to, decided) = Decided::by(&rule);
        let sealed = scene.seal(decided, Some((rule.state, &known.newest)));
        let stock = Stock {
            version: sealed.version,
            on_hand: known.stock.on_hand + self.quantity.get(),
            held: known.stock.held,
        };
        let reply =
            scene.render(&Answer::Received(items::Item { stock, newest: Newest::of(&sealed), ..known }));
        let keys = Keys::Record(&[(&scene.claim, &reply)]);
        items::receive(connection, &self.sku, self.quantity, &sealed, keys).await?;
        Ok(Ending::Written(Written { reply, entry_id: sealed.id, moved: Moved::to(to) }))
    }
}
