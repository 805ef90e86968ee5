//! The order service: orders are placed, reserved at inventory, confirmed or cancelled, and explained.
//!
//! | module | holds |
//! |---|---|
//! | [`domain`] | states, the transition function, decisions; pure |
//! | [`store`] | all SQL |
//! | [`app`] | the use cases: transaction boundaries and the call to inventory |
//! | [`clients`] | the peer |
//! | [`reconcile`] | the sweep that finishes what was interrupted |
//! | [`http`] | routes, DTOs, the mapping to replies |
//! | [`config`], [`startup`] | settings, and how the parts are put together |

pub mod app;
pub mod clients;
pub mod config;
pub mod domain;
pub mod http;
pub mod reconcile;
pub mod startup;
pub mod store;

pub use startup::run;
