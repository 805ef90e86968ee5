//! The inventory service: what there is of each item, and who has been promised how much of it.
//!
//! | layer | holds |
//! |---|---|
//! | [`domain`] | states, legal moves, decisions; pure |
//! | [`store`] | all SQL |
//! | [`app`] | the use cases: one transaction each |
//! | [`http`] | routes, what they take, what they answer |

pub mod app;
pub mod domain;
pub mod http;
pub mod store;
