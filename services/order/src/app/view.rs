//! An order in the public API.

use std::sync::Arc;

use inventory_api::Line;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::domain::Status;
use crate::store::{Order, StoredOrder, StoredStatus};

/// An order.
///
/// A release that does not know the order's status shows the stored status as it is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct OrderView {
    /// Order id: a UUIDv7.
    pub id: Uuid,
    /// Status of the order, unknown outcomes included.
    pub status: Status,
    /// Number of the last transition. Each change of status raises it by one.
    pub version: i64,
    /// Id of the customer.
    #[schema(example = "17850")]
    #[schema(value_type = String)]
    pub customer_id: Arc<str>,
    /// Order lines: SKU and quantity.
    #[schema(value_type = Vec<Line>)]
    pub lines: Arc<[Line]>,
    /// The stock that inventory holds for the order; null until inventory has answered that it holds it.
    pub reservation: Option<ReservationView>,
    /// Time at which the order was placed, RFC 3339 in UTC.
    #[serde(with = "time::serde::rfc3339")]
    pub created_at: OffsetDateTime,
    /// Time of the last change of status, RFC 3339 in UTC.
    #[serde(with = "time::serde::rfc3339")]
    pub updated_at: OffsetDateTime,
    /// Correlation id of the request that placed the order.
    #[schema(value_type = String)]
    pub correlation_id: Arc<str>,
}

/// The stock held for an order.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ReservationView {
    /// Id of the reservation at inventory.
    pub id: Uuid,
    /// End of the hold, by inventory's clock, RFC 3339 in UTC.
    #[serde(with = "time::serde::rfc3339")]
    pub expires_at: OffsetDateTime,
}

impl From<&Order> for OrderView {
    fn from(order: &Order) -> Self {
        Self {
            id: order.id,
            status: order.status,
            version: order.version,
            customer_id: Arc::clone(&order.customer_id),
            lines: Arc::clone(&order.lines),
            reservation: order
                .expires_at
                .map(|expires_at| ReservationView { id: order.reservation_id, expires_at }),
            created_at: order.created_at,
            updated_at: order.updated_at,
            correlation_id: Arc::clone(&order.correlation_id),
        }
    }
}

/// A stored order whose status this release may not know.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum ShownOrder {
    /// An order whose status this release knows.
    Known(OrderView),
    /// An order whose status this release does not know.
    Foreign(ForeignOrder),
}

/// The members of [`OrderView`], with a status that this release does not know.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ForeignOrder {
    id: Uuid,
    status: String,
    version: i64,
    customer_id: Arc<str>,
    lines: Arc<[Line]>,
    reservation: Option<ReservationView>,
    #[serde(with = "time::serde::rfc3339")]
    created_at: OffsetDateTime,
    #[serde(with = "time::serde::rfc3339")]
    updated_at: OffsetDateTime,
    correlation_id: Arc<str>,
}

impl From<StoredOrder> for ShownOrder {
    fn from(order: StoredOrder) -> Self {
        match order.status.clone() {
            StoredStatus::Known(status) => Self::Known(OrderView::from(&order.with_status(status))),
            StoredStatus::Unknown(status) => Self::Foreign(ForeignOrder {
                id: order.id,
                status,
                version: order.version,
                customer_id: order.customer_id,
                lines: order.lines,
                reservation: order
                    .expires_at
                    .map(|expires_at| ReservationView { id: order.reservation_id, expires_at }),
                created_at: order.created_at,
                updated_at: order.updated_at,
                correlation_id: order.correlation_id,
            }),
        }
    }
}
