//! The decisions. Each is a struct of what it reads; `decide` says where that leads. A verdict that stays where
//! the aggregate is means that nothing happens, and no entry is written.
//!
//! A rule's name carries its version. A change of meaning is a new struct under a new version beside the old one,
//! which stays, so that old entries still re-execute.

mod confirm;
mod create_item;
mod expire;
mod receive;
mod release;
mod reserve;

use journal::Rule;
use journal::rule::ReplayError;
use serde_json::Value;

pub use confirm::Confirm;
pub use create_item::CreateItem;
pub use expire::Expire;
pub use receive::Receive;
pub use release::Release;
pub use reserve::{RequestedLine, Reserve};

/// Executes the decision `rule` again from recorded inputs; gives the state that it reaches.
pub fn replay(rule: &str, inputs: &Value) -> Result<String, ReplayError> {
    match rule {
        Reserve::NAME => journal::rule::replay::<Reserve>(inputs),
        Confirm::NAME => journal::rule::replay::<Confirm>(inputs),
        Release::NAME => journal::rule::replay::<Release>(inputs),
        Expire::NAME => journal::rule::replay::<Expire>(inputs),
        CreateItem::NAME => journal::rule::replay::<CreateItem>(inputs),
        Receive::NAME => journal::rule::replay::<Receive>(inputs),
        unknown => Err(ReplayError::UnknownRule(unknown.to_owned())),
    }
}

/// The names of all decisions this build can execute.
pub const NAMES: [&str; 6] =
    [Reserve::NAME, Confirm::NAME, Release::NAME, Expire::NAME, CreateItem::NAME, Receive::NAME];

/// A time as it stands in inputs and reasons.
fn text(time: time::OffsetDateTime) -> String {
    time.format(&time::format_description::well_known::Rfc3339)
        .expect("every time the database can hold, years 0 to 9999, has an RFC 3339 form")
}

#[cfg(test)]
mod tests;
