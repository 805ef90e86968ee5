//! Handlers that read orders.

use axum::extract::State;
use axum::{Extension, Json};
use chassis::auth::ClientsAndOperators;
use chassis::params::malformed;
use chassis::problem_document::ProblemDocument;
use chassis::{ApiError, Caller as Authenticated, Page, Role, ValidPath, ValidQuery};
use inventory_api::validate;
use mainstay::RequestContext;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::Api;
use crate::app::view::{OrderView, ShownOrder};
use crate::domain::Status;
use crate::store;

/// A page of orders, oldest first. It has at most `limit` orders, and fewer if they reach 4,000 lines before that.
#[derive(Debug, Serialize, ToSchema)]
pub struct OrderPage {
    /// Orders of the page.
    #[schema(value_type = Vec<OrderView>)]
    pub items: Vec<ShownOrder>,
    /// Orders of the page that this release cannot read; `items` and `unreadable` together are the whole page. Absent when
    /// there are none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub unreadable: Vec<UnreadableOrder>,
    /// Cursor of the next page: the value for `after`; null at the end.
    pub next: Option<String>,
}

/// An order that this release cannot read.
#[derive(Debug, Serialize, ToSchema)]
pub struct UnreadableOrder {
    /// Order id.
    pub id: Uuid,
    /// Reason for the reader; the service's log has the fault.
    pub detail: &'static str,
}

/// Filters of the list.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Which {
    /// Only orders in this status.
    status: Option<Status>,
    /// Only orders of this customer: 1 to 64 printable ASCII characters.
    #[param(min_length = 1, max_length = 64)]
    customer_id: Option<String>,
}

/// The principal whose orders a caller may see: a client's own; `None` for an operator, who sees all orders.
pub(super) fn owner(authenticated: &Authenticated<ClientsAndOperators>) -> Option<&str> {
    (authenticated.principal.role != Role::Operator).then_some(&*authenticated.principal.name)
}

/// Read an order in its present state
///
/// Consistency: read your writes, and monotonic by `version`. The status can be behind inventory's: an unknown status stays
/// until inventory answers, and `reserved` can be shown for up to 5 seconds after the hold has expired.
#[utoipa::path(
    get, path = "/v1/orders/{id}", tag = "orders", params(("id" = Uuid, Path, description = "The order")),
    responses(
        (status = 200, description = "The order", body = OrderView),
        (status = 400, description = "malformed-parameter", body = ProblemDocument),
        (status = 401, description = "unauthenticated", body = ProblemDocument),
        (status = 403, description = "forbidden", body = ProblemDocument),
        (status = 404, description = "not-found, also for another principal's", body = ProblemDocument),
        (status = 429, description = "rate-limited", body = ProblemDocument),
        (status = 500, description = "internal", body = ProblemDocument),
        (status = 503, description = "overloaded, unavailable, shutting-down", body = ProblemDocument),
        (status = 504, description = "deadline-exceeded", body = ProblemDocument),
    )
)]
pub(super) async fn get(
    State(api): State<Api>,
    Extension(context): Extension<RequestContext>,
    authenticated: Authenticated<ClientsAndOperators>,
    ValidPath(id): ValidPath<Uuid>,
) -> Result<Json<ShownOrder>, ApiError> {
    let order = api.app.order(context.deadline.instant(), id, owner(&authenticated)).await;
    match order.map_err(|error| chassis::stored::database(&error))? {
        Some(order) => Ok(Json(order.into())),
        None => Err(ApiError::not_found("there is no such order")),
    }
}

/// List orders
///
/// Consistency: each page is one snapshot, the pages together are not. An order that exists during the whole pass and does
/// not change is listed once. An order that is placed during the pass, or changes its status under a filter, can be missing.
/// A list that begins after a reply shows the state that the reply reported.
#[utoipa::path(
    get, path = "/v1/orders", tag = "orders",
    params(
        Which,
        ("after" = Option<String>, Query, description = "The cursor of the page before"),
        ("limit" = Option<u16>, Query, description = "Limit on orders of a page: 1 to 500, default 50", minimum = 1, maximum = 500),
    ),
    responses(
        (status = 200, description = "A page", body = OrderPage),
        (status = 400, description = "malformed-parameter", body = ProblemDocument),
        (status = 401, description = "unauthenticated", body = ProblemDocument),
        (status = 403, description = "forbidden", body = ProblemDocument),
        (status = 429, description = "rate-limited", body = ProblemDocument),
        (status = 500, description = "internal", body = ProblemDocument),
        (status = 503, description = "overloaded, unavailable, shutting-down", body = ProblemDocument),
        (status = 504, description = "deadline-exceeded", body = ProblemDocument),
    )
)]
pub(super) async fn list(
    State(api): State<Api>,
    Extension(context): Extension<RequestContext>,
    authenticated: Authenticated<ClientsAndOperators>,
    page: Page,
    ValidQuery(which): ValidQuery<Which>,
) -> Result<Json<OrderPage>, ApiError> {
    let after = page.after.map(|cursor| cursor.parse().map_err(|_| Page::bad_cursor())).transpose()?;
    if which.customer_id.as_deref().is_some_and(|id| !validate::is_identifier(id)) {
        return Err(malformed("customer_id", validate::IDENTIFIER_RULE));
    }
    let wanted = store::Page {
        principal: owner(&authenticated).map(str::to_owned),
        status: which.status,
        customer_id: which.customer_id,
        after,
        limit: i64::from(page.limit),
    };
    let found = api.app.orders(context.deadline.instant(), &wanted).await;
    let found = found.map_err(|error| chassis::stored::database(&error))?;
    let unreadable =
        |id| UnreadableOrder { id, detail: "this release of the service cannot read this order" };
    Ok(Json(OrderPage {
        items: found.orders.into_iter().map(ShownOrder::from).collect(),
        unreadable: found.unreadable.into_iter().map(|fault| unreadable(fault.id)).collect(),
        next: found.next.map(|id| id.to_string()),
    }))
}
