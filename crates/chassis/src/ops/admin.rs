//! Extractors and values of the handlers under `/admin/v1`.

use axum::extract::FromRequestParts;
use http::request::Parts;
use mainstay::RequestContext;
use mainstay::problem::FieldError;
use serde_json::Value;

use super::changes::{Change, ChangeLog};
use crate::ApiError;
use crate::auth::{Caller, Operators};

/// The operator who sent the request.
#[derive(Debug)]
pub(super) struct Operator {
    caller: Caller<Operators>,
    context: RequestContext,
}

impl<S: Send + Sync> FromRequestParts<S> for Operator {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let caller = Caller::from_request_parts(parts, state).await?;
        let context = parts.extensions.get::<RequestContext>().cloned();
        let context = context.ok_or_else(|| ApiError::internal("the request has no context"))?;
        Ok(Self { caller, context })
    }
}

impl Operator {
    pub(super) async fn changed(
        self,
        log: &ChangeLog,
        kind: &'static str,
        subject: String,
        reason: Reason,
        detail: Value,
    ) -> bool {
        let (actor, correlation_id) = (self.caller.principal.name, self.context.correlation_id);
        log.record(Change { kind, subject, actor, reason: reason.0, detail, correlation_id }).await
    }
}

/// Reason of a change: 1 to 500 characters without control characters.
#[derive(Debug)]
pub(super) struct Reason(String);

impl Reason {
    pub(super) fn parse(text: &str) -> Result<Self, FieldError> {
        let text = text.trim();
        let right = (1..=500).contains(&text.chars().count()) && !text.chars().any(char::is_control);
        let detail = "must be a reason of 1 to 500 characters without control characters";
        right.then(|| Self(text.to_owned())).ok_or_else(|| error("reason", detail))
    }
}

pub(super) fn error(field: &str, detail: impl Into<String>) -> FieldError {
    FieldError { field: field.to_owned(), detail: detail.into() }
}
