//! Taking an item into the range.

use journal::rule::NONE;
use journal::{Alternative, Rule, Verdict};
use serde::{Deserialize, Serialize};

use crate::domain::item::{ItemEvent, ItemState, transition};
use crate::domain::stock::{ItemName, OpeningStock, Sku};

/// A SKU names one item for ever.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CreateItem {
    /// Its SKU.
    pub sku: Sku,
    /// Its name.
    pub name: ItemName,
    /// Pieces it begins with.
    pub quantity: OpeningStock,
    /// Null when no item has this SKU.
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
