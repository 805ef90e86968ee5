//! The client of the inventory service: typed calls over the middleware's client stack.

use mainstay::client::{ClientStack, HyperTransport};

/// Client of inventory with deadlines, budgeted retries, a circuit breaker and a bulkhead.
pub type Inventory = inventory_api::InventoryClient<ClientStack<HyperTransport>>;
