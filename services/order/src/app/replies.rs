//! The final reply of each command, as it is stored and replayed.
//!
//! A reply depends on the transition alone. So the request or the reconciler, when it makes the transition, can
//! complete every key that waits for it.

use http::StatusCode;
use inventory_api::ShortLine;
use journal::State;
use journal::idempotency::StoredReply;
use mainstay::Problem;
use mainstay::problem::Effect;
use serde::{Deserialize, Serialize};
use serde_json::json;
use uuid::Uuid;

use super::view::OrderView;
use crate::domain::Status;
use crate::domain::rules::{Reply, Wish};
use crate::store::Order;

/// Name of the command that places an order.
pub const PLACE: &str = "place";

/// Path of an order, for the `Location` header.
pub fn location<S>(order: &Order<S>) -> String {
    ["/v1/orders/", order.id.hyphenated().encode_lower(&mut Uuid::encode_buffer())].concat()
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
pub fn of_transition(order: &Order, reply: &Reply, correlation_id: &str) -> Vec<(&'static str, StoredReply)> {
    match order.status {
        Status::Reserved => vec![(PLACE, success(StatusCode::CREATED, order))],
        Status::Rejected => vec![(
            PLACE,
            problem(&rejected(order, reply).member("order_id", order.id.to_string()), &order.correlation_id),
        )],
        Status::Confirmed => vec![(Wish::Confirm.as_str(), success(StatusCode::OK, order))],
        Status::Expired => vec![(Wish::Confirm.as_str(), problem(&expired(order), correlation_id))],
        Status::Cancelled => vec![
            (Wish::Cancel.as_str(), success(StatusCode::OK, order)),
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
pub fn of_rest(order: &Order, wish: Wish, correlation_id: &str) -> Option<StoredReply> {
    match (order.status, wish) {
        (status, wish) if status == wish.goal() => Some(success(StatusCode::OK, order)),
        (Status::Expired, Wish::Confirm) => Some(problem(&expired(order), correlation_id)),
        (status, wish) if status.is_terminal() => {
            Some(problem(&illegal(status, wish.goal()).outcome(Effect::Refused), correlation_id))
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

fn rejected(order: &Order, reply: &Reply) -> Problem {
    let refusal = match reply {
        Reply::InsufficientStock { short_lines } => {
            let each: Vec<_> = short_lines.iter().map(describe).collect();
            Problem::new(StatusCode::CONFLICT, "insufficient-stock", "There is not enough stock")
                .detail(each.join("; "))
                .member("short_lines", json!(short_lines))
        }
        Reply::UnknownSku { skus } => {
            let lines = order.lines.iter().enumerate().filter(|(_, l)| skus.contains(&l.sku));
            lines.fold(
                Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "unknown-sku", "There is no such item")
                    .detail(format!("inventory has no item {}", skus.join(", ")))
                    .member("skus", json!(skus)),
                |p, (n, _)| p.field(format!("lines[{n}].sku"), "is not an item that inventory knows"),
            )
        }
        Reply::Held { .. }
        | Reply::ReservationVoided
        | Reply::Shipped
        | Reply::Released
        | Reply::HoldExpired
        | Reply::Nothing { .. } => Problem::new(
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
        location: Some(location(order)),
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
