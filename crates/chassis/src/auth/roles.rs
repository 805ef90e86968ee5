//! Authorisation: a handler's signature names the roles that may call it.

use std::marker::PhantomData;

use axum::extract::FromRequestParts;
use http::StatusCode;
use http::request::Parts;
use mainstay::Problem;
use mainstay::problem::Effect;

use super::{Principal, Role};
use crate::ApiError;

/// A set of roles, as a type.
pub trait Allowed: Send + Sync + 'static {
    /// The roles in the set.
    const ROLES: &'static [Role];
}

macro_rules! allowed {
    ($($(#[$doc:meta])* $name:ident: $($role:ident),+;)+) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy)]
        pub struct $name;
        impl Allowed for $name {
            const ROLES: &'static [Role] = &[$(Role::$role),+];
        }
    )+};
}

allowed! {
    /// `client` only.
    Clients: Client;
    /// `service` only.
    Services: Service;
    /// `operator` only.
    Operators: Operator;
    /// `client` and `operator`.
    ClientsAndOperators: Client, Operator;
    /// `service` and `operator`.
    ServicesAndOperators: Service, Operator;
    /// Every authenticated caller.
    Anyone: Client, Service, Operator;
}

/// A caller with one of `A`'s roles. Other callers get 403 `forbidden` before the body is read.
#[derive(Debug, Clone)]
pub struct Caller<A: Allowed> {
    /// The authenticated caller.
    pub principal: Principal,
    allowed: PhantomData<A>,
}

impl<A: Allowed, S: Sync> FromRequestParts<S> for Caller<A> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let Some(principal) = parts.extensions.get::<Principal>() else {
            return Err(ApiError::internal("a route with Caller is not behind Tokens::layer"));
        };
        if !A::ROLES.contains(&principal.role) {
            return Err(forbidden(principal.role, A::ROLES));
        }
        Ok(Self { principal: principal.clone(), allowed: PhantomData })
    }
}

fn forbidden(role: Role, allowed: &[Role]) -> ApiError {
    let allowed: Vec<_> = allowed.iter().map(|role| role.as_str()).collect();
    Problem::new(StatusCode::FORBIDDEN, "forbidden", "The caller's role may not do this")
        .outcome(Effect::NotExecuted)
        .detail(format!("this takes the role {}; the token's role is {role}", allowed.join(" or ")))
        .into()
}
