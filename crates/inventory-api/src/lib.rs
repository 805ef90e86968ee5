//! The inventory service's wire types and the typed client of it.
//!
//! The service and its callers compile against the same types, so they cannot drift apart unseen.

pub mod client;
pub mod types;
pub mod validate;

pub use client::{
    Answer, Blame, Call, CallContext, InventoryClient, Refusal, Subject, X_CAUSATION_ID, X_ENTRY_ID,
    X_HYBRID_CLOCK, item_path,
};
pub use types::{
    CreateItem, Item, ItemPage, Line, Receipt, RequestLine, Reservation, ReservationStatus, ReserveRequest,
    ShortLine,
};
