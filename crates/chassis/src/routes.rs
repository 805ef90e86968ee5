//! What every router ends with: replies for unknown paths and methods, and the correlation id in every problem.

use std::borrow::Cow;

use axum::Router;
use axum::extract::{MatchedPath, Request};
use axum::middleware::{self, Next};
use axum::response::Response;
use http::header::CONTENT_LENGTH;
use http::{Method, StatusCode, Uri};
use mainstay::problem::Effect;
use mainstay::server::{RequestHead, ServerStack};
use mainstay::{Problem, RequestContext};

use crate::ApiError;
use crate::error::Reported;

/// Completes a router and puts the server stack around it. Call it last, after all routes are in place.
///
/// The stack goes inside the router's matching, so that [`matched`] can label a request by its route, and around
/// every reply, the fallbacks' included.
pub fn finish(router: Router, stack: &ServerStack) -> Router {
    complete(router).layer(stack.clone())
}

/// The same without a server stack, for a listener that needs no limits of that kind.
pub fn complete(router: Router) -> Router {
    router
        .method_not_allowed_fallback(method_not_allowed)
        .fallback(not_found)
        .layer(middleware::from_fn(correlate))
}

/// The template of the route that matched (`/v1/orders/{id}`), for [`mainstay::server::ServerConfig::route`].
pub fn matched(head: &RequestHead<'_>) -> Option<Cow<'static, str>> {
    head.extensions.get::<MatchedPath>().map(|path| Cow::Owned(path.as_str().to_owned()))
}

async fn not_found(uri: Uri) -> ApiError {
    ApiError::not_found(format!("no such path: {}", uri.path()))
}

/// The router adds `Allow`.
async fn method_not_allowed(method: Method) -> ApiError {
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method-not-allowed", "This path does not take that method")
        .outcome(Effect::NotExecuted)
        .detail(format!("{method} is not among the methods in Allow"))
        .into()
}

/// Writes the correlation id into problems that were made without it.
async fn correlate(request: Request, next: Next) -> Response {
    let context = request.extensions().get::<RequestContext>().cloned();
    let mut response = next.run(request).await;
    let reported = response.extensions_mut().remove::<Reported>();
    let (Some(Reported(problem)), Some(context)) = (reported, context) else { return response };
    let written: Response = problem.correlated(&context.correlation_id).into_response();
    let (parts, body) = written.into_parts();
    *response.body_mut() = body;
    response.headers_mut().remove(CONTENT_LENGTH);
    response.headers_mut().extend(parts.headers);
    response
}
