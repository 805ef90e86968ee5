//! Both journals' feeds, which the operations listeners serve.

use checker::Side;
use replay::Client;

use crate::state::Target;

/// Both journals' feeds.
#[derive(Debug, Clone)]
pub(crate) struct Feeds {
    order: Client,
    inventory: Client,
}

impl Feeds {
    /// Feeds for an interactive command: both services are read at the same time, within a bound.
    pub(crate) fn for_reads(target: &Target) -> anyhow::Result<Self> {
        let token = Some(target.operator()?);
        Ok(Self {
            order: Client::for_reads("order-operations", &target.urls.order_ops, token)?,
            inventory: Client::for_reads("inventory-operations", &target.urls.inventory_ops, token)?,
        })
    }

    /// Feeds for reading the journals completely.
    pub(crate) fn whole(target: &Target) -> anyhow::Result<Self> {
        let token = target.operator()?;
        Ok(Self {
            order: Client::for_feeds("order-operations", &target.urls.order_ops, token)?,
            inventory: Client::for_feeds("inventory-operations", &target.urls.inventory_ops, token)?,
        })
    }

    pub(crate) fn client(&self, side: Side) -> &Client {
        match side {
            Side::Order => &self.order,
            Side::Inventory => &self.inventory,
        }
    }
}
