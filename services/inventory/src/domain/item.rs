//! An item is stocked or unheard of.

use journal::rule::NONE;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::Illegal;
use super::stock::Sku;

/// The states of an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ItemState {
    /// It can be reserved, as far as there is any of it.
    Stocked,
}

impl journal::State for ItemState {
    const KIND: &'static str = "item";

    fn as_str(self) -> &'static str {
        match self {
            Self::Stocked => "stocked",
        }
    }
}

/// What can happen to an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ItemEvent {
    /// It was taken into the range.
    Created,
    /// More of it came in.
    Received,
}

/// The one place that says where an item goes from where.
pub fn transition(from: Option<ItemState>, event: ItemEvent) -> Result<ItemState, Illegal> {
    match (from, event) {
        (None, ItemEvent::Created) | (Some(ItemState::Stocked), ItemEvent::Received) => {
            Ok(ItemState::Stocked)
        }
        (None, ItemEvent::Received) => Err(Illegal::between("item", NONE, "stocked")),
        (Some(ItemState::Stocked), ItemEvent::Created) => Err(Illegal::between("item", "stocked", "stocked")),
    }
}

/// The aggregate id of an item, which has no other name than its SKU.
pub fn item_id(sku: &Sku) -> Uuid {
    Uuid::new_v5(&journal::ITEM_NAMESPACE, sku.as_str().as_bytes())
}
