//! An item: its state, and the one function that decides the next state. An item is stocked, or it is not known.

use journal::rule::NONE;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::status::Illegal;
use super::stock::{Sku, Stock};

/// An item in its present state. Every value of its columns is readable, so that no item makes a page fail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// SKU of the item.
    pub sku: String,
    /// Name of the item.
    pub name: String,
    /// Stock of the item.
    pub stock: Stock,
}

/// State of an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ItemState {
    /// The item exists and can be reserved as far as its stock goes.
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

/// An event that can change an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ItemEvent {
    /// The item was created.
    Created,
    /// Stock of the item was received.
    Received,
}

impl ItemState {
    /// The state of an item after `event`; `from` is `None` before the first entry. No other function decides this.
    ///
    /// # Errors
    /// An event that the state does not allow.
    pub fn after(from: Option<Self>, event: ItemEvent) -> Result<Self, Illegal> {
        match (from, event) {
            (None, ItemEvent::Created) | (Some(Self::Stocked), ItemEvent::Received) => Ok(Self::Stocked),
            (None, ItemEvent::Received) => Err(Illegal::between("item", NONE, "stocked")),
            (Some(Self::Stocked), ItemEvent::Created) => Err(Illegal::between("item", "stocked", "stocked")),
        }
    }
}

/// Aggregate id of an item: a UUIDv5 of its SKU, because an item has no other id.
pub fn item_id(sku: &Sku) -> Uuid {
    Uuid::new_v5(&journal::ITEM_NAMESPACE, sku.as_str().as_bytes())
}
