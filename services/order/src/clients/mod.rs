//! The peer, as this service sees it: a typed client over the middleware's client stack.

use mainstay::client::{ClientStack, HyperTransport};

/// Inventory through deadlines, budgeted retries, a circuit breaker and a bulkhead.
pub type Inventory = inventory_api::InventoryClient<ClientStack<HyperTransport>>;
