//! A shop's orders against a running pair: real invoices from a file, or generated ones, at a fixed rate.
//!
//! | module | holds |
//! |---|---|
//! | [`retail`] | the importer of a file, the generator, and the plan of a replay |
//! | [`run`] | the replay of a plan |
//! | [`shop`] | a customer's requests, repeated under their keys until they have a final answer |
//! | [`tally`] | outcomes and waits |
//! | [`log`] | requests and replies, for the checker |
//! | [`client`] | the HTTP client, which is the client stack of the services |
//! | [`text`] | numbers and foreign text for people |

pub mod client;
pub mod log;
pub mod retail;
pub mod run;
pub mod shop;
pub mod tally;
pub mod text;

pub use client::{Client, refusal};
pub use log::RequestLog;
pub use run::{Replay, Stocked, parse_rate, progress, progress_line};
pub use shop::Shop;
pub use tally::{Counts, Outcome, Tally, at_quantile};
