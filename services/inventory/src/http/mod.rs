//! The edge: routes, what they take and what they answer. No SQL and no rules.

pub mod reply;
