//! The API's description, generated from the code: as JSON and, with the feature `swagger-ui`, as a page.

use axum::Router;
use axum::routing::get;
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{Method, StatusCode};
use mainstay::server::ServerStack;
use utoipa::openapi::OpenApi;

/// Routes of the description, without a token: `GET /openapi.json` and, with the feature `swagger-ui`, `GET /docs`.
pub fn routes(document: &OpenApi) -> Router {
    let json = Bytes::from(json(document));
    let document =
        Router::new().route("/openapi.json", get(async move || ([(CONTENT_TYPE, "application/json")], json)));
    #[cfg(feature = "swagger-ui")]
    let document = document.merge(page());
    document
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

/// Swagger UI at `/docs/`. Its files are in the program, so it works offline.
#[cfg(feature = "swagger-ui")]
fn page() -> Router {
    use http::HeaderValue;
    use http::header::CONTENT_SECURITY_POLICY;
    use tower_http::set_header::SetResponseHeaderLayer;
    use utoipa_swagger_ui::{Config, SwaggerUi};

    // The page runs its own scripts and calls its own service. Its layout needs inline styles and images in `data:` URLs.
    let policy = HeaderValue::from_static(
        "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; \
         connect-src 'self'; frame-ancestors 'none'",
    );
    let page = Router::from(SwaggerUi::new("/docs").config(Config::from("/openapi.json")));
    page.layer(SetResponseHeaderLayer::overriding(CONTENT_SECURITY_POLICY, policy))
}
