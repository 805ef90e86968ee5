//! The invariants of the contract, one file each.

pub(crate) mod acknowledged;
pub(crate) mod agreement;
pub(crate) mod attempts;
pub(crate) mod causes;
pub(crate) mod deadlines;
pub(crate) mod evidence;
pub(crate) mod keys;
pub(crate) mod replies;
pub(crate) mod resources;
pub(crate) mod stock;
pub(crate) mod tables;
pub(crate) mod transitions;
pub(crate) mod uniqueness;
