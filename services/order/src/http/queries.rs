//! Handlers that read orders and their histories.

use axum::extract::State;
use axum::{Extension, Json};
use chassis::auth::ClientsAndOperators;
use chassis::params::malformed;
use chassis::problem_document::{ProblemDocument, ReadProblems};
use chassis::{ApiError, Caller as Authenticated, Page, Role, ValidPath, ValidQuery};
use inventory_api::validate;
use mainstay::RequestContext;
use serde::Deserialize;
use utoipa::IntoParams;
use uuid::Uuid;

use super::Api;
use super::bodies::{History, OrderPage, UnreadableEntry, UnreadableOrder};
use crate::app::OrderView;
use crate::domain::Status;
use crate::store;

/// Filters of the list.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Filters {
    /// Only orders in this status.
    status: Option<Status>,
    /// Only orders of this customer: 1 to 64 printable ASCII characters.
    #[param(min_length = 1, max_length = 64)]
    customer_id: Option<String>,
}

/// The principal whose orders a caller may see: a client's own; `None` for an operator, who sees all orders.
fn owner(authenticated: &Authenticated<ClientsAndOperators>) -> Option<&str> {
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
        (status = 404, description = "not-found, also for another principal's", body = ProblemDocument),
        ReadProblems,
    )
)]
pub(super) async fn get(
    State(api): State<Api>,
    Extension(context): Extension<RequestContext>,
    authenticated: Authenticated<ClientsAndOperators>,
    ValidPath(id): ValidPath<Uuid>,
) -> Result<Json<OrderView>, ApiError> {
    let order = api.app.order(context.deadline.instant(), id, owner(&authenticated)).await;
    match order.map_err(|error| chassis::stored::database(&error))? {
        Some(order) => Ok(Json(OrderView::from(&order))),
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
        Filters,
        ("after" = Option<String>, Query, description = "The cursor of the page before"),
        ("limit" = Option<u16>, Query, description = "Limit on orders of a page: 1 to 500, default 50", minimum = 1, maximum = 500),
    ),
    responses(
        (status = 200, description = "A page", body = OrderPage),
        ReadProblems,
    )
)]
pub(super) async fn list(
    State(api): State<Api>,
    Extension(context): Extension<RequestContext>,
    authenticated: Authenticated<ClientsAndOperators>,
    page: Page,
    ValidQuery(filters): ValidQuery<Filters>,
) -> Result<Json<OrderPage>, ApiError> {
    let after = page.after.map(|cursor| cursor.parse().map_err(|_| Page::bad_cursor())).transpose()?;
    if filters.customer_id.as_deref().is_some_and(|id| !validate::is_identifier(id)) {
        return Err(malformed("customer_id", validate::IDENTIFIER_RULE));
    }
    let wanted = store::Page {
        principal: owner(&authenticated).map(str::to_owned),
        status: filters.status,
        customer_id: filters.customer_id,
        after,
        limit: i64::from(page.limit),
    };
    let found = api.app.orders(context.deadline.instant(), &wanted).await;
    let found = found.map_err(|error| chassis::stored::database(&error))?;
    let unreadable =
        |id| UnreadableOrder { id, detail: "this release of the service cannot read this order" };
    Ok(Json(OrderPage {
        items: found.orders.iter().map(OrderView::from).collect(),
        unreadable: found.unreadable.into_iter().map(|fault| unreadable(fault.id)).collect(),
        next: found.next.map(|id| id.to_string()),
    }))
}

/// Explain an order: every transition with its reason
///
/// Consistency: read your writes, and monotonic. An entry never changes and never disappears; later reads only add entries
/// at the end.
#[utoipa::path(
    get, path = "/v1/orders/{id}/history", tag = "orders",
    params(("id" = Uuid, Path, description = "The order")),
    responses(
        (status = 200, description = "The history", body = History),
        (status = 404, description = "not-found, also for another principal's", body = ProblemDocument),
        ReadProblems,
    )
)]
pub(super) async fn history(
    State(api): State<Api>,
    Extension(context): Extension<RequestContext>,
    authenticated: Authenticated<ClientsAndOperators>,
    ValidPath(id): ValidPath<Uuid>,
) -> Result<Json<History>, ApiError> {
    let deadline = context.deadline.instant();
    let order = api.app.order(deadline, id, owner(&authenticated)).await;
    if order.map_err(|error| chassis::stored::database(&error))?.is_none() {
        return Err(ApiError::not_found("there is no such order"));
    }
    let found = api.app.history(deadline, id).await.map_err(|error| chassis::stored::database(&error))?;
    let mut history = History { entries: Vec::with_capacity(found.len()), unreadable: Vec::new() };
    for entry in found {
        match entry {
            Ok(entry) => history.entries.push(entry.into()),
            Err((seq, _)) => history.unreadable.push(UnreadableEntry { seq }),
        }
    }
    Ok(Json(history))
}
