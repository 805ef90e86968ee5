//! The decisions of inventory: the states, the legal moves between them, and the rules that choose a move. No clock, no
//! I/O, no async: everything that a rule reads is one of its fields.
//!
//! | module | holds |
//! |---|---|
//! | [`stock`] | SKUs, quantities and lines that are valid once they exist |
//! | [`status`] | the statuses of a reservation, its transition function, and all legal moves |
//! | [`item`] | the state of an item and its transition function |
//! | [`outcome`] | results of commands, refusals among them |
//! | [`decisions`] | the decisions, one file each, and their re-execution |

pub mod decisions;
pub mod item;
pub mod outcome;
pub mod status;
pub mod stock;

pub use decisions::{Decision, NewItem, NewReservation, Receipt, replay};
pub use item::{Item, ItemState};
pub use outcome::{Outcome, Refusal};
pub use status::{Illegal, Reservation, Status, TRANSITIONS};
