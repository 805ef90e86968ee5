//! Authentication: the `Authorization` header gives the request its [`Principal`].

use std::future::{Ready, ready};
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::response::{IntoResponse, Response};
use futures_util::future::Either;
use http::header::{AUTHORIZATION, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderValue, Request, StatusCode};
use mainstay::Problem;
use mainstay::problem::Effect;
use mainstay::server::LogFields;
use tower::layer::layer_fn;
use tower::{Layer, Service};

use super::{Role, Tokens};
use crate::ApiError;

/// The authenticated caller. Idempotency keys, quotas and orders belong to a principal's name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Principal {
    /// Name: 1 to 64 characters of `A-Za-z0-9._-`.
    pub name: Arc<str>,
    /// Role of the token.
    pub role: Role,
}

impl Tokens {
    /// A layer that refuses requests without a known bearer token with 401.
    pub fn layer<S>(&self) -> impl Layer<S, Service = Authenticate<S>> + Clone + Send + Sync + 'static {
        let tokens = self.clone();
        layer_fn(move |inner| Authenticate { inner, tokens: tokens.clone() })
    }

    /// The principal of a request, for layers outside the router such as quotas; `None` without a known token.
    pub fn principal(&self, headers: &HeaderMap) -> Option<&Principal> {
        match presented(headers) {
            Presented::Token(token) => self.identify(token),
            Presented::Malformed | Presented::Nothing => None,
        }
    }
}

/// Service of [`Tokens::layer`].
#[derive(Debug, Clone)]
pub struct Authenticate<S> {
    inner: S,
    tokens: Tokens,
}

impl<S, B> Service<Request<B>> for Authenticate<S>
where
    S: Service<Request<B>, Response = Response>,
{
    type Response = Response;
    type Error = S::Error;
    type Future = Either<S::Future, Ready<Result<Response, S::Error>>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        match authenticate(&self.tokens, &mut request) {
            Ok(()) => Either::Left(self.inner.call(request)),
            Err(refusal) => Either::Right(ready(Ok(refusal.into_response()))),
        }
    }
}

fn authenticate<B>(tokens: &Tokens, request: &mut Request<B>) -> Result<(), ApiError> {
    let principal = match presented(request.headers()) {
        Presented::Token(token) => {
            tokens.identify(token).ok_or_else(|| unauthenticated("the token is not known", true))?.clone()
        }
        Presented::Malformed => return Err(unauthenticated("must be one `Bearer` token", true)),
        Presented::Nothing => return Err(unauthenticated("is required: `Bearer` and a token", false)),
    };
    if let Some(fields) = request.extensions().get::<LogFields>() {
        fields.set("principal", &*principal.name);
    }
    request.extensions_mut().insert(principal);
    Ok(())
}

#[derive(Debug, PartialEq, Eq)]
enum Presented<'a> {
    Nothing,
    Malformed,
    Token(&'a str),
}

fn presented(headers: &HeaderMap) -> Presented<'_> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let value = match (values.next(), values.next()) {
        (None, _) => return Presented::Nothing,
        (Some(_), Some(_)) => return Presented::Malformed,
        (Some(value), None) => value,
    };
    // RFC 6750: a case-insensitive scheme, one space, and a token of unreserved characters.
    let legal = |b: u8| b.is_ascii_alphanumeric() || b"-._~+/=".contains(&b);
    match value.to_str().ok().and_then(|text| text.split_once(' ')) {
        Some((scheme, token))
            if scheme.eq_ignore_ascii_case("bearer")
                && (1..=512).contains(&token.len())
                && token.bytes().all(legal) =>
        {
            Presented::Token(token)
        }
        _ => Presented::Malformed,
    }
}

fn unauthenticated(detail: &str, was_presented: bool) -> ApiError {
    // RFC 6750 §3.1: no error code when no credentials were presented.
    let challenge = if was_presented {
        HeaderValue::from_static("Bearer realm=\"mainstay\", error=\"invalid_token\"")
    } else {
        HeaderValue::from_static("Bearer realm=\"mainstay\"")
    };
    let problem = Problem::new(StatusCode::UNAUTHORIZED, "unauthenticated", "Who is calling is not known")
        .outcome(Effect::NotExecuted)
        .field("Authorization", detail);
    ApiError::from(problem).header(WWW_AUTHENTICATE, challenge)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_one_well_formed_bearer_token_counts() {
        let read = |values: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(AUTHORIZATION, HeaderValue::from_static(value));
            }
            match presented(&headers) {
                Presented::Token(token) => Ok(token.to_owned()),
                Presented::Nothing => Err("nothing"),
                Presented::Malformed => Err("malformed"),
            }
        };
        assert_eq!(read(&["Bearer abc"]), Ok("abc".to_owned()));
        assert_eq!(read(&["bearer a.b~c+/="]), Ok("a.b~c+/=".to_owned()));
        assert_eq!(read(&[]), Err("nothing"));
        for bad in ["Bearer", "Bearer ", "Bearer  abc", "Bearer a b", "Basic abc", "abc", "Bearer a\"b"] {
            assert_eq!(read(&[bad]), Err("malformed"), "{bad}");
        }
        assert_eq!(read(&["Bearer abc", "Bearer abc"]), Err("malformed"));
    }
}
