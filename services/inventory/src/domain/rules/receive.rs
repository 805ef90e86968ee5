//! Stock that came in.

use journal::rule::NONE;
use journal::{Alternative, Rule, Verdict};
use serde::{Deserialize, Serialize};

use crate::domain::item::{ItemEvent, ItemState, transition};
use crate::domain::stock::{Quantity, Sku, Stock};

/// Any known item takes any receipt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receive {
    /// Of what.
    pub sku: Sku,
    /// How many.
    pub quantity: Quantity,
    /// Where the item stands.
    pub state: ItemState,
    /// What there was of it before.
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
