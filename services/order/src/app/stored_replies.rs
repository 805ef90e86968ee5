//! An order in the public API, and the final reply of each command, as it is stored and replayed.
//!
//! A reply depends on the transition alone. So the request or the reconciler, when it makes the transition, can
//! complete every key that waits for it.

use std::sync::Arc;

use http::StatusCode;
use inventory_api::{Line, ShortLine};
use journal::State;
use journal::idempotency::StoredReply;
use mainstay::Problem;
use mainstay::problem::Effect;
use serde::{Deserialize, Serialize};
use serde_json::json;
use time::OffsetDateTime;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::domain::decisions::InventoryAnswer;
use crate::domain::{CustomerCommand, PLACE, Status};
use crate::store::{Order, StoredStatus};

/// An order.
///
/// A release that does not know the order's status shows the stored status as it is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct OrderView {
    /// Order id: a UUIDv7.
    pub id: Uuid,
    /// Status of the order, unknown outcomes included.
    #[schema(value_type = Status)]
    pub status: StoredStatus,
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

impl<S: Clone + Into<StoredStatus>> From<&Order<S>> for OrderView {
    fn from(order: &Order<S>) -> Self {
        Self {
            id: order.id,
            status: order.status.clone().into(),
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

/// Path of an order, for the `Location` header.
pub fn location(id: Uuid) -> String {
    format!("/v1/orders/{id}")
}

/// Id of the order that a stored reply is about, if the reply's body has it.
pub fn order_of(reply: &StoredReply) -> Option<Uuid> {
    #[derive(Deserialize)]
    struct Body {
        id: Option<Uuid>,
        order_id: Option<Uuid>,
    }
    let Body { id, order_id } = serde_json::from_slice(&reply.body).ok()?;
    order_id.or(id)
}

/// The replies for the keys that wait for the order's new status, by command. `correlation_id` belongs to the request
/// that is in flight.
pub fn of_transition(
    order: &Order,
    answer: &InventoryAnswer,
    correlation_id: &str,
) -> Vec<(&'static str, StoredReply)> {
    match order.status {
        Status::Reserved => vec![(PLACE, success(StatusCode::CREATED, order))],
        Status::Rejected => vec![(
            PLACE,
            problem(&rejected(order, answer).member("order_id", order.id.to_string()), &order.correlation_id),
        )],
        Status::Confirmed => vec![(CustomerCommand::Confirm.as_str(), success(StatusCode::OK, order))],
        Status::Expired => {
            vec![(CustomerCommand::Confirm.as_str(), problem(&expired(order), correlation_id))]
        }
        Status::Cancelled => vec![
            (CustomerCommand::Cancel.as_str(), success(StatusCode::OK, order)),
            (PLACE, problem(&cancelled(order), &order.correlation_id)),
        ],
        Status::Reserving
        | Status::ReserveUnknown
        | Status::Confirming
        | Status::ConfirmUnknown
        | Status::Cancelling
        | Status::CancelUnknown => Vec::new(),
    }
}

/// The reply to a command that needs no transition, because the order has reached its goal or is terminal; `None` while
/// the status can still change.
pub fn of_rest(order: &Order, command: CustomerCommand, correlation_id: &str) -> Option<StoredReply> {
    match (order.status, command) {
        (status, command) if status == command.goal() => Some(success(StatusCode::OK, order)),
        (Status::Expired, CustomerCommand::Confirm) => Some(problem(&expired(order), correlation_id)),
        (status, command) if status.is_terminal() => {
            Some(problem(&illegal(status, command.goal()).outcome(Effect::Refused), correlation_id))
        }
        _ => None,
    }
}

/// The problem `illegal-transition`: the order's status does not allow the command.
pub fn illegal(from: Status, to: Status) -> Problem {
    let allowed: Vec<_> = from.successors().into_iter().map(State::as_str).collect();
    Problem::new(StatusCode::CONFLICT, "illegal-transition", "The order's state does not allow this")
        .detail(format!("an order that is {} cannot become {}", from.as_str(), to.as_str()))
        .member("from", from.as_str())
        .member("to", to.as_str())
        .member("allowed", allowed)
}

fn rejected(order: &Order, answer: &InventoryAnswer) -> Problem {
    let refusal = match answer {
        InventoryAnswer::InsufficientStock { short_lines } => {
            let each: Vec<_> = short_lines.iter().map(describe).collect();
            Problem::new(StatusCode::CONFLICT, "insufficient-stock", "There is not enough stock")
                .detail(each.join("; "))
                .member("short_lines", json!(short_lines))
        }
        InventoryAnswer::UnknownSku { skus } => {
            let lines = order.lines.iter().enumerate().filter(|(_, l)| skus.contains(&l.sku));
            lines.fold(
                Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "unknown-sku", "There is no such item")
                    .detail(format!("inventory has no item {}", skus.join(", ")))
                    .member("skus", json!(skus)),
                |p, (n, _)| p.field(format!("lines[{n}].sku"), "is not an item that inventory knows"),
            )
        }
        InventoryAnswer::Held { .. }
        | InventoryAnswer::ReservationVoided
        | InventoryAnswer::Shipped
        | InventoryAnswer::Released
        | InventoryAnswer::HoldExpired
        | InventoryAnswer::Nothing { .. } => Problem::new(
            StatusCode::CONFLICT,
            "reservation-voided",
            "The reservation was released before it was made",
        ),
    };
    refusal.outcome(Effect::Refused)
}

fn describe(line: &ShortLine) -> String {
    format!("{}: {} asked for, {} available", line.sku, line.requested, line.available)
}

fn expired(order: &Order) -> Problem {
    Problem::new(StatusCode::GONE, "reservation-expired", "The hold on the stock has run out")
        .detail("place the order again")
        .member("order_id", order.id.to_string())
        .outcome(Effect::Refused)
}

fn cancelled(order: &Order) -> Problem {
    Problem::new(StatusCode::CONFLICT, "order-cancelled", "The order was cancelled before it was decided")
        .member("order_id", order.id.to_string())
        .outcome(Effect::Refused)
}

fn success(status: StatusCode, order: &Order) -> StoredReply {
    StoredReply {
        status: status.as_u16(),
        content_type: "application/json".into(),
        location: Some(location(order.id)),
        body: to_bytes(&OrderView::from(order)),
    }
}

fn problem(problem: &Problem, correlation_id: &str) -> StoredReply {
    let problem = Problem { correlation_id: Some(correlation_id.to_owned()), ..problem.clone() };
    StoredReply {
        status: problem.status,
        content_type: "application/problem+json".into(),
        location: None,
        body: to_bytes(&problem),
    }
}

fn to_bytes<T: Serialize>(value: &T) -> Vec<u8> {
    // Most replies are shorter than this.
    let mut bytes = Vec::with_capacity(512);
    serde_json::to_writer(&mut bytes, value)
        .expect("views and problems hold only strings, integers and lists");
    bytes
}
