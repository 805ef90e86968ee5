//! The decisions of inventory, one file each.
//!
//! Each has a function that takes the rows as they were locked and gives a [`Decision`]. The function collects everything
//! that the decision reads in a [`Rule`], which the journal records. When the rule gives the present state, no entry is
//! written.
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

pub use confirm::{Confirm, confirm};
pub use create_item::{CreateItem, NewItem, create_item};
pub use expire::{Expire, expire};
pub use receive::{Receipt, Receive, receive};
pub use release::{Release, release};
pub use reserve::{NewReservation, RequestedLine, Reserve, repeat_reserve, reserve};

use super::outcome::{Outcome, Refusal};

/// Decision about a command for an object `T`: a reservation or an item.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision<R, T> {
    /// The rule moves the object to another state, or creates it.
    Transition {
        /// The rule with everything that it read.
        rule: R,
        /// The object after the transition.
        after: T,
        /// Answer to the command.
        outcome: Outcome,
    },
    /// The present state answers the command for good. Only the key is written.
    Unchanged(Outcome),
    /// The command is refused in the present state, and a later repeat may succeed. Nothing is written.
    NotYet(Refusal),
}

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
