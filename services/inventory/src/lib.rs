//! The inventory service: what there is of each item, and who has been promised how much of it.
//!
//! | layer | holds |
//! |---|---|
//! | [`domain`] | states, legal moves, decisions; pure |
//! | [`store`] | all SQL |
//! | [`app`] | the use cases: one transaction each |
//! | [`reconcile`] | what happens without being asked |
//! | [`http`] | routes, what they take, what they answer |
//! | [`config`], [`startup`] | settings, and how the parts are put together |

pub mod app;
pub mod config;
pub mod domain;
pub mod http;
pub mod reconcile;
pub mod startup;
pub mod store;

pub use startup::run;
