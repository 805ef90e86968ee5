//! The API's description, generated from the code: as JSON and as a page.

mod page;

use axum::Router;
use axum::response::IntoResponse;
use axum::routing::get;
use bytes::Bytes;
use http::header::{CONTENT_SECURITY_POLICY, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderName, Method, StatusCode};
use mainstay::server::ServerStack;
use utoipa::openapi::OpenApi;

/// The document as `GET /openapi.json` and `GET /docs`, without a token.
pub fn routes(document: &OpenApi) -> Router {
    let json = Bytes::from(json(document));
    let page = Bytes::from(page::render(&serde_json::to_value(document).unwrap_or_default()));
    Router::new()
        .route("/openapi.json", get(|| async move { serve("application/json", json) }))
        .route("/docs", get(|| async move { serve("text/html; charset=utf-8", page) }))
}

/// Starts the metrics of every documented operation at zero, for its documented statuses, and for requests that match no
/// route. A series that begins above zero has no increase, so a rule would miss the first failures of a process.
pub fn start_metrics(document: &OpenApi, stack: &ServerStack) {
    let value = serde_json::to_value(document).unwrap_or_default();
    let paths = value["paths"].as_object().into_iter().flatten();
    for (path, operations) in paths {
        for (method, operation) in operations.as_object().into_iter().flatten() {
            let Ok(method) = method.to_ascii_uppercase().parse::<Method>() else { continue };
            let statuses = operation["responses"].as_object().into_iter().flatten();
            stack.expect(path.clone(), &method, statuses.filter_map(|(status, _)| status.parse().ok()));
        }
    }
    for method in [Method::GET, Method::POST] {
        stack.expect("unmatched", &method, [StatusCode::NOT_FOUND, StatusCode::METHOD_NOT_ALLOWED]);
    }
}

/// The document as text, for the `openapi` subcommand and for comparing releases.
pub fn json(document: &OpenApi) -> String {
    let value = serde_json::to_value(document).expect("an OpenAPI document holds only JSON values");
    let mut text = serde_json::to_string_pretty(&value).expect("a JSON value can be written");
    text.push('\n');
    text
}

fn serve(kind: &'static str, body: Bytes) -> impl IntoResponse {
    let headers: [(HeaderName, &'static str); 3] = [
        (CONTENT_TYPE, kind),
        // The page loads nothing and runs nothing.
        (CONTENT_SECURITY_POLICY, "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    (headers, body)
}
