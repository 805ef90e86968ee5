//! The decision to add received stock.

use journal::rule::NONE;
use journal::{Alternative, Rule, Verdict};
use serde::{Deserialize, Serialize};

use crate::domain::item::{ItemEvent, ItemState, transition};
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

impl Rule for Receive {
    const NAME: &'static str = "inventory.receive@1";
    type State = ItemState;

    fn decide(&self) -> Verdict<ItemState> {
        let to = transition(Some(self.state), ItemEvent::Received)
            .expect("every state of an item allows a receipt: see the transition function");
        let because = format!("the item is known, at version {}", self.stock.version);
        Verdict { to, alternatives: vec![Alternative { to: NONE.into(), refused_because: because.into() }] }
    }
}
