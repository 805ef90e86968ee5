//! The inventory service: the stock of each item, and the reservations that hold part of it for orders.
//!
//! | layer | holds |
//! |---|---|
//! | [`domain`] | states, legal moves, decisions; pure |
//! | [`store`] | all state: one verb is one transaction or one read; all SQL |
//! | [`app`] | the use cases |
//! | [`reconcile`] | the sweep that expires holds, and routes for operators |
//! | [`http`] | routes, request and reply types, the mapping from results to replies |
//! | [`config`], [`startup`] | the settings, and the assembly of the service |

pub mod app;
pub mod config;
pub mod domain;
pub mod http;
pub mod reconcile;
pub mod startup;
pub mod store;

pub use startup::run;
