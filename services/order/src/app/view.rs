//! An order as clients see it.

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
/// A release that meets a status that it does not know shows it as it is stored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct OrderView {
    /// Its id.
    pub id: Uuid,
    /// Where it stands, unknown states included.
    pub status: Status,
    /// Raised by every change of state.
    pub version: i64,
    /// For which customer.
    #[schema(example = "17850")]
    #[schema(value_type = String)]
    pub customer_id: Arc<str>,
    /// What.
    #[schema(value_type = Vec<Line>)]
    pub lines: Arc<[Line]>,
    /// The stock held for it; null unless and until inventory has said so.
    pub reservation: Option<ReservationView>,
    /// When it was placed.
    #[serde(with = "time::serde::rfc3339")]
    pub created_at: OffsetDateTime,
    /// When it last changed state.
    #[serde(with = "time::serde::rfc3339")]
    pub updated_at: OffsetDateTime,
    /// Of the request that placed it.
    #[schema(value_type = String)]
    pub correlation_id: Arc<str>,
}

/// The stock held for an order.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ReservationView {
    /// Its id at inventory.
    pub id: Uuid,
    /// When the hold ends, by inventory's clock.
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

/// An order as it is stored, in a status that this release may not know.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum ShownOrder {
    /// As always.
    Known(OrderView),
    /// The members of [`OrderView`], with another status.
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
