//! Authentication and authorisation.
//!
//! [`Tokens::layer`] puts routes behind bearer tokens; a handler then names the roles of its callers in its signature,
//! `Caller<Clients>`. The role is checked before the body is read.

mod layer;
mod roles;
mod tokens;

pub use layer::Principal;
pub use roles::{
    Allowed, Anyone, Caller, Clients, ClientsAndOperators, Operators, Services, ServicesAndOperators,
};
pub use tokens::{Role, TokenLineError, Tokens};
