//! Wire types of the inventory service, and its typed client.
//!
//! The service and its callers compile against the same types, so a difference between them is a compile error.

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
