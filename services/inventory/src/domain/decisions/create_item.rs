//! The decision whether an item is created.

use journal::rule::NONE;
use journal::{Alternative, Rule, State as _, Verdict};
use serde::{Deserialize, Serialize};

use super::Decision;
use crate::domain::item::{Item, ItemState};
use crate::domain::outcome::{Outcome, Refusal};
use crate::domain::status::Illegal;
use crate::domain::stock::{ItemName, OpeningStock, Sku, Stock};

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

/// A valid item to create.
#[derive(Debug, Clone)]
pub struct NewItem {
    /// SKU of the item.
    pub sku: Sku,
    /// Name of the item.
    pub name: ItemName,
    /// Pieces on hand at the beginning.
    pub on_hand: OpeningStock,
}

/// Decides the creation of `new`. `exists` is true if an item has its SKU.
pub fn create_item(new: &NewItem, exists: bool) -> Decision<CreateItem, Item> {
    if exists {
        return Decision::Unchanged(Outcome::Refused(Refusal::SkuExists(new.sku.clone())));
    }
    let rule =
        CreateItem { sku: new.sku.clone(), name: new.name.clone(), quantity: new.on_hand, state: None };
    let after = Item {
        sku: new.sku.to_string(),
        name: new.name.as_str().to_owned(),
        stock: Stock { version: 1, on_hand: new.on_hand.get(), held: 0 },
    };
    Decision::Transition { rule, outcome: Outcome::Created(after.clone()), after }
}

impl Rule for CreateItem {
    const NAME: &'static str = "inventory.create_item@1";
    type State = ItemState;

    fn decide(&self) -> Verdict<ItemState> {
        let because = match self.state {
            None => format!("no item has the SKU {}", self.sku),
            Some(state) => Illegal::between("item", state.as_str(), "stocked").to_string(),
        };
        let refused = Alternative { to: NONE.into(), refused_because: because.into() };
        Verdict { to: ItemState::Stocked, alternatives: vec![refused] }
    }
}
