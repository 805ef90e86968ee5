//! The decisions of inventory. Each is a struct of everything that it reads; `decide` gives the next state. When the next
//! state is the present one, nothing happens and no entry is written.
//!
//! The name of a rule has its version. A rule with another meaning is a new struct with a new version. The old one stays
//! in the code, so that old entries still re-execute.

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

/// Executes the decision `rule` again from recorded inputs, and gives the state that it decides.
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

/// Names of all decisions that this build can execute.
pub const NAMES: [&str; 6] =
    [Reserve::NAME, Confirm::NAME, Release::NAME, Expire::NAME, CreateItem::NAME, Receive::NAME];

/// A time in RFC 3339, as inputs and reasons have it.
fn text(time: time::OffsetDateTime) -> String {
    time.format(&time::format_description::well_known::Rfc3339)
        .expect("every time the database can hold, years 0 to 9999, has an RFC 3339 form")
}

#[cfg(test)]
mod tests;
