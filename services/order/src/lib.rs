//! The order service: orders are placed, reserved at inventory, confirmed or cancelled, and explained.
//!
//! | module | holds |
//! |---|---|
//! | [`domain`] | states, the transition function, decisions; pure |
//! | [`store`] | all SQL and every transaction, behind verbs |
//! | [`app`] | the use cases: intent, call to inventory, record |
//! | [`clients`] | the client of the inventory service |
//! | [`reconcile`] | the sweep that finishes interrupted orders |
//! | [`http`] | routes, request and reply types, the mapping from results to replies |
//! | [`config`], [`startup`] | the settings, and the assembly of the service |

pub mod app;
pub mod clients;
pub mod config;
pub mod domain;
pub mod http;
pub mod reconcile;
pub mod startup;
pub mod store;

pub use startup::run;
