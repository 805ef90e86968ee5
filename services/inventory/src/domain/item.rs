//! An item. It is stocked, or it is not known.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

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

/// Aggregate id of an item: a UUIDv5 of its SKU, because an item has no other id.
pub fn item_id(sku: &Sku) -> Uuid {
    Uuid::new_v5(&journal::ITEM_NAMESPACE, sku.as_str().as_bytes())
}
