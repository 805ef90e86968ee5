//! All SQL of the order service, and nothing else.

pub mod orders;
pub mod pages;
pub mod waiting;
pub mod work;

pub use orders::Order;
pub use pages::Page;

/// The service's own migrations, after the journal's.
pub const MIGRATIONS: [(i64, &str, &str); 3] = [
    (1001, "order", include_str!("../../../../migrations/order/1001_order.sql")),
    (1002, "entries", include_str!("../../../../migrations/order/1002_entries.sql")),
    (1010, "tries without entry", include_str!("../../../../migrations/order/1010_tries_without_entry.sql")),
];
