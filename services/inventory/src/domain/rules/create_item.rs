//! The decision whether an item is created.

use journal::rule::NONE;
use journal::{Alternative, Rule, Verdict};
use serde::{Deserialize, Serialize};

use crate::domain::item::{ItemEvent, ItemState, transition};
use crate::domain::stock::{ItemName, OpeningStock, Sku};

/// Decides the creation of an item. A SKU names the same item for ever, so a known SKU is refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CreateItem {
    /// SKU of the item.
    pub sku: Sku,
    /// Name of the item.
    pub name: ItemName,
    /// Pieces on hand at the beginning.
    pub quantity: OpeningStock,
    /// State of the item with this SKU; null when there is none.
    pub state: Option<ItemState>,
}

impl Rule for CreateItem {
    const NAME: &'static str = "inventory.create_item@1";
    type State = ItemState;

    fn decide(&self) -> Verdict<ItemState> {
        let refused =
            |because: String| vec![Alternative { to: NONE.into(), refused_because: because.into() }];
        match (transition(self.state, ItemEvent::Created), self.state) {
            (Ok(to), _) => Verdict { to, alternatives: refused(format!("no item has the SKU {}", self.sku)) },
            (Err(illegal), Some(state)) => Verdict { to: state, alternatives: refused(illegal.to_string()) },
            (Err(_), None) => {
                unreachable!("an item that is not there can be created: see the transition function")
            }
        }
    }
}
