//! All SQL of the order service.

pub mod orders;
pub mod pages;
pub mod waiting;
pub mod work;

pub use orders::{Order, StoredOrder, StoredStatus, Unreadable};
pub use pages::Page;

/// The service's own migrations, after the journal's.
pub const MIGRATIONS: [(i64, &str, &str); 5] = [
    (1001, "order", include_str!("../../../../migrations/order/1001_order.sql")),
    (1002, "entries", include_str!("../../../../migrations/order/1002_entries.sql")),
    (1005, "stuck", include_str!("../../../../migrations/order/1005_stuck.sql")),
    (1010, "tries without entry", include_str!("../../../../migrations/order/1010_tries_without_entry.sql")),
    (1011, "status since", include_str!("../../../../migrations/order/1011_status_since.sql")),
];
