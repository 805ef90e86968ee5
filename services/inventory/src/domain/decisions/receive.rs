//! The decision to add received stock.

use journal::rule::NONE;
use journal::{Alternative, Rule, Verdict};
use serde::{Deserialize, Serialize};

use super::Decision;
use crate::domain::item::{Item, ItemState};
use crate::domain::outcome::{Outcome, Refusal};
use crate::domain::stock::{Quantity, Sku, Stock};

/// Decides a receipt. Every known item accepts every receipt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receive {
    /// SKU of the item.
    pub sku: Sku,
    /// Number of received pieces.
    pub quantity: Quantity,
    /// State of the item.
    pub state: ItemState,
    /// Stock before the receipt.
    pub stock: Stock,
}

/// Pieces that were received of an item.
#[derive(Debug, Clone)]
pub struct Receipt {
    /// SKU of the item.
    pub sku: Sku,
    /// Number of received pieces.
    pub quantity: Quantity,
}

/// Decides a receipt of the item, which was found under its lock.
pub fn receive(receipt: &Receipt, found: Option<&Item>) -> Decision<Receive, Item> {
    let Some(known) = found else { return Decision::NotYet(Refusal::NoItem(receipt.sku.clone())) };
    let rule = Receive {
        sku: receipt.sku.clone(),
        quantity: receipt.quantity,
        state: ItemState::Stocked,
        stock: known.stock,
    };
    let on_hand = known.stock.on_hand + receipt.quantity.get();
    let stock = Stock { version: known.stock.version + 1, on_hand, ..known.stock };
    let after = Item { stock, ..known.clone() };
    Decision::Transition { rule, outcome: Outcome::Received(after.clone()), after }
}

impl Rule for Receive {
    const NAME: &'static str = "inventory.receive@1";
    type State = ItemState;

    fn decide(&self) -> Verdict<ItemState> {
        let because = format!("the item is known, at version {}", self.stock.version);
        Verdict {
            to: self.state,
            alternatives: vec![Alternative { to: NONE.into(), refused_because: because.into() }],
        }
    }
}
