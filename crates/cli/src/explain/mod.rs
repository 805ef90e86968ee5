//! The story of an order from both journals: each step with its reason, the refused alternatives, and the times in
//! which the outcome was unknown.

mod find;
mod logged;
mod picture;
mod requests;
mod rows;
mod stock;
#[cfg(test)]
mod tests;
mod text;
mod timeline;
mod waiting;
mod words;

pub(crate) use find::{Found, Unreadable};
pub(crate) use logged::Logged;
pub(crate) use logged::find as find_logged;
pub(crate) use picture::picture;
pub(crate) use requests::{Requests, WithoutEntry};
pub(crate) use stock::Stock;
pub(crate) use text::{Detail, text};
pub(crate) use timeline::{Timeline, WaitKind};
pub(crate) use waiting::{UndecidedTries, Waiting};
pub(crate) use words::{plain, span};
