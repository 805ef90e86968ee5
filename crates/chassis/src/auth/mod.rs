//! Who is calling, and what they may do.
//!
//! [`Tokens::layer`] puts routes behind bearer tokens; a handler then names who may call it in its signature,
//! `Caller<Clients>`, which is decided before the body is read.

mod layer;
mod roles;
mod tokens;

pub use layer::Principal;
pub use roles::{
    Allowed, Anyone, Caller, Clients, ClientsAndOperators, Operators, Services, ServicesAndOperators,
};
pub use tokens::{Role, TokenLineError, Tokens};
