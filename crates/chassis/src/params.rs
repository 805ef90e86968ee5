//! Path and query parameters. A malformed parameter is 400 `malformed-parameter` with the parameter's name.

use std::collections::HashSet;

use axum::extract::rejection::PathRejection;
use axum::extract::{FromRequestParts, Path, RawPathParams};
use http::StatusCode;
use http::request::Parts;
use mainstay::Problem;
use mainstay::problem::Effect;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::ApiError;

/// Path parameters as `T`: a single value, a tuple or a struct.
#[derive(Debug, Clone)]
pub struct ValidPath<T>(pub T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for ValidPath<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        match Path::<T>::from_request_parts(parts, state).await {
            Ok(Path(value)) => Ok(Self(value)),
            Err(rejection) => Err(path_error(&rejection, parts, state).await),
        }
    }
}

async fn path_error<S: Send + Sync>(rejection: &PathRejection, parts: &mut Parts, state: &S) -> ApiError {
    use axum::extract::path::ErrorKind;
    let PathRejection::FailedToDeserializePathParams(failed) = rejection else {
        return ApiError::internal(rejection);
    };
    let names: Vec<String> = match RawPathParams::from_request_parts(parts, state).await {
        Ok(params) => params.iter().map(|(name, _)| name.to_owned()).collect(),
        Err(_) => Vec::new(),
    };
    let at = |index: usize| names.get(index).cloned().unwrap_or_else(|| "path".to_owned());
    let (field, detail) = match failed.kind() {
        ErrorKind::ParseErrorAtKey { key, expected_type, .. } => {
            (key.clone(), format!("must be {expected_type}"))
        }
        ErrorKind::ParseErrorAtIndex { index, expected_type, .. } => {
            (at(*index), format!("must be {expected_type}"))
        }
        ErrorKind::ParseError { expected_type, .. } => (at(0), format!("must be {expected_type}")),
        ErrorKind::InvalidUtf8InPathParam { key } => (key.clone(), "is not UTF-8 once decoded".to_owned()),
        ErrorKind::DeserializeError { key, message, .. } => (key.clone(), message.clone()),
        ErrorKind::Message(message) => (at(0), message.clone()),
        other => return ApiError::internal(format!("path parameters: {other:?}")),
    };
    malformed(&field, detail)
}

/// Query parameters as a struct. Other names are ignored, so that a handler can take [`Page`] too; a repeated name is an
/// error.
#[derive(Debug, Clone)]
pub struct ValidQuery<T>(pub T);

impl<T: DeserializeOwned, S: Sync> FromRequestParts<S> for ValidQuery<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let query = parts.uri.query().unwrap_or_default();
        read_query(query).map(Self)
    }
}

fn read_query<T: DeserializeOwned>(query: &str) -> Result<T, ApiError> {
    let mut names = HashSet::new();
    for (name, _) in form_urlencoded::parse(query.as_bytes()) {
        if !names.insert(name.clone()) {
            return Err(malformed(&name, "is given more than once"));
        }
    }
    let deserializer = serde_urlencoded::Deserializer::new(form_urlencoded::parse(query.as_bytes()));
    serde_path_to_error::deserialize(deserializer).map_err(|error| {
        let field = match error.path().to_string().as_str() {
            "." | "?" => "query".to_owned(),
            path => path.to_owned(),
        };
        malformed(&field, error.into_inner().to_string())
    })
}

/// Page of a list: `limit` (1 to 500, default 50) and `after` (the cursor `next` of the page before).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// Most items of the page.
    pub limit: u16,
    /// Cursor after which the page begins. Its list can read it.
    pub after: Option<String>,
}

impl Page {
    /// Default of `limit`.
    pub const DEFAULT_LIMIT: u16 = 50;
    /// Largest `limit`. A list of large items has a bound in bytes too, and ends a page sooner.
    pub const MAX_LIMIT: u16 = 500;

    /// 400 for a cursor that its list cannot read.
    pub fn bad_cursor() -> ApiError {
        malformed("after", "is not a cursor that this list gave as `next`")
    }
}

impl<S: Sync> FromRequestParts<S> for Page {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        #[derive(Deserialize)]
        struct Raw {
            limit: Option<String>,
            after: Option<String>,
        }
        let Raw { limit, after } = read_query(parts.uri.query().unwrap_or_default())?;
        let limit = match limit.map(|text| text.parse::<u16>()) {
            None => Self::DEFAULT_LIMIT,
            Some(Ok(limit)) if (1..=Self::MAX_LIMIT).contains(&limit) => limit,
            Some(_) => return Err(malformed("limit", "must be a whole number from 1 to 500")),
        };
        if after.as_ref().is_some_and(|cursor| cursor.is_empty() || cursor.len() > 512) {
            return Err(Self::bad_cursor());
        }
        Ok(Self { limit, after })
    }
}

/// 400 for a parameter that its route cannot read.
pub fn malformed(field: &str, detail: impl Into<String>) -> ApiError {
    Problem::new(StatusCode::BAD_REQUEST, "malformed-parameter", "A parameter is malformed")
        .outcome(Effect::NotExecuted)
        .field(field, detail)
        .into()
}
