//! Everything the checker is told besides the journals: table dumps, the client's log, what started when, how
//! often calls were attempted, and what the processes hold.
//!
//! Take them in this order, so that a check of a running pair is exact where it can be: inventory's clock, tables, order
//! journal, inventory journal. Then a row is never newer than its journal, and an order's cause is never missing.

use journal::entry::{hash, hex};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::Side;

/// What was observed, journals excepted. Empty lists mean "not observed" and make rules say so.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Observed {
    /// Faults have stopped and the resolution bound has passed.
    pub at_rest: bool,
    /// Each service's tables and journal were read in one snapshot, so that they are equal even while the pair is
    /// running. At rest they are in any case.
    pub one_snapshot: bool,
    /// Inventory's clock at or before the moment of the order service's snapshot; without it a `reserved` order counts as
    /// unexpired. A later time would condemn orders whose holds ran out only after they were read.
    #[serde(with = "time::serde::rfc3339::option")]
    pub now: Option<OffsetDateTime>,
    /// Both services' state tables, or nothing.
    pub tables: Option<Tables>,
    /// Rows of those tables that could not be read.
    pub unread: Vec<UnreadRow>,
    /// The rows of each journal's table against those that its feed gave.
    pub journals: Vec<JournalTable>,
    /// What clients sent and got, in any order.
    pub requests: Vec<ClientRequest>,
    /// Handlers, statements and calls that were started.
    pub starts: Vec<Start>,
    /// Logical calls over a hop, with their attempts.
    pub calls: Vec<Call>,
    /// For how many seconds `calls` were watched; the budget's floor is per second.
    pub watched_secs: f64,
    /// Database sessions that were seen idle in a transaction, at their longest, and ones that never were.
    pub sessions: Vec<Session>,
    /// Levels that must be back where they began.
    pub gauges: Vec<Gauge>,
}

/// The state tables of both services.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Tables {
    pub orders: Vec<OrderRow>,
    pub reservations: Vec<ReservationRow>,
    pub items: Vec<ItemRow>,
    pub keys: Vec<KeyRow>,
}

/// A row of a table with a value that this release cannot read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnreadRow {
    /// Whose table it is in.
    pub service: Side,
    /// The table.
    pub table: String,
    /// The aggregate that the row is of, where that can be read.
    pub aggregate: Option<Uuid>,
    /// The value, and why it cannot be read.
    pub what: String,
}

/// The table behind a journal's feed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JournalTable {
    /// Whose journal.
    pub service: Side,
    /// Rows that the table has.
    pub rows: u64,
    /// Rows that the feed gave.
    pub given: u64,
    /// The first rows, by `seq`, that the feed did not give.
    pub hidden: Vec<HiddenRow>,
    /// Entries with a column that differs from its body.
    #[serde(default)]
    pub miscopied: Vec<MiscopiedRow>,
}

/// An entry with a column beside its body that is not a copy of it. Searches go by the columns.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MiscopiedRow {
    /// Its sequence number.
    pub seq: i64,
    /// Its aggregate, by its body.
    pub aggregate: Uuid,
    /// The aggregate's version, by its body.
    pub version: i64,
    /// The columns that differ.
    pub columns: Vec<String>,
}

/// A row of a journal that its feed did not give.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HiddenRow {
    /// Its sequence number.
    pub seq: i64,
    /// Its aggregate.
    pub aggregate: Uuid,
    /// The aggregate's version.
    pub version: i64,
}

/// One SKU and how many of it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Line {
    pub sku: String,
    pub quantity: i64,
}

/// A row of the order service's `orders`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OrderRow {
    pub id: Uuid,
    pub principal: String,
    pub status: String,
    pub version: i64,
    /// Lower-case hexadecimal.
    pub head_hash: String,
    /// `None`: this release cannot read them.
    #[serde(default)]
    pub lines: Option<Vec<Line>>,
    #[serde(default)]
    pub reservation_id: Option<Uuid>,
    #[serde(default, with = "time::serde::rfc3339::option")]
    pub expires_at: Option<OffsetDateTime>,
}

/// A row of inventory's `reservations`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ReservationRow {
    pub id: Uuid,
    /// Unknown to inventory for a reservation that was voided before it was made.
    #[serde(default)]
    pub order_id: Option<Uuid>,
    pub status: String,
    pub version: i64,
    pub head_hash: String,
    /// `None`: this release cannot read them.
    #[serde(default)]
    pub lines: Option<Vec<Line>>,
}

/// A row of inventory's `items`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ItemRow {
    pub sku: String,
    pub on_hand: i64,
    pub held: i64,
    pub version: i64,
    pub head_hash: String,
}

/// A row of either service's `idempotency`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct KeyRow {
    pub service: Side,
    pub principal: String,
    pub key_hash: String,
    #[serde(default)]
    pub aggregate_id: Option<Uuid>,
    /// The final reply, once there is one.
    #[serde(default)]
    pub reply: Option<StoredReply>,
    /// The same reply, as a client reads it.
    #[serde(default)]
    pub told: Option<ClientReply>,
    /// The entry that settled the key. A reply that needed no transition has none.
    #[serde(default)]
    pub entry_id: Option<Uuid>,
}

/// A reply that was stored for replay.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredReply {
    pub status: u16,
    /// SHA-256 of the body in lower-case hexadecimal.
    pub body_hash: String,
}

/// One request as a client saw it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ClientRequest {
    /// Whom it was sent to.
    pub service: Side,
    pub principal: String,
    /// The hash of its idempotency key as the services make it; none for a GET.
    #[serde(default)]
    pub key_hash: Option<String>,
    /// Where it can be found in the client's log.
    pub correlation_id: String,
    /// The answer; none when none was read to its end, which is an unknown outcome.
    #[serde(default)]
    pub reply: Option<ClientReply>,
}

/// An answer that a client read to its end.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ClientReply {
    pub status: u16,
    /// SHA-256 of the body in lower-case hexadecimal.
    pub body_hash: String,
    /// The stable name of the problem, for an answer that is one.
    pub problem: Option<String>,
    pub retryable: bool,
    /// The problem's `outcome`: `not-executed`, `refused` or `unknown`.
    pub outcome: Option<String>,
    /// The order, reservation or item that the reply is about.
    pub aggregate: Option<Uuid>,
    /// The state it was said to be in.
    pub state: Option<String>,
    /// The version it was said to have.
    pub version: Option<i64>,
}

/// Refusals that are stored for their key and replayed. The contract names them.
const STORED_REFUSALS: [&str; 7] = [
    "insufficient-stock",
    "unknown-sku",
    "sku-exists",
    "reservation-expired",
    "reservation-voided",
    "order-cancelled",
    "illegal-transition",
];

impl ClientReply {
    /// Reads an answer as `service` gives it: an order, a reservation, an item, or a problem.
    pub fn read(service: Side, status: u16, body: &[u8]) -> Self {
        let json: Value = serde_json::from_slice(body).unwrap_or_default();
        let text = |name: &str| json[name].as_str().map(str::to_owned);
        let id = |name: &str| text(name).and_then(|id| id.parse::<Uuid>().ok());
        // A success has no `type`, and a problem's ends in its stable name.
        let kind = text("type").filter(|_| status >= 400);
        let problem = kind.and_then(|kind| kind.rsplit([':', '/']).next().map(str::to_owned));
        let (aggregate, state) = match problem.as_deref() {
            // The order exists as rejected, or the reservation as refused, and the problem says which one it is.
            Some("insufficient-stock" | "unknown-sku") => {
                let (aggregate, state) = match service {
                    Side::Order => (id("order_id"), "rejected"),
                    Side::Inventory => (id("reservation_id"), "refused"),
                };
                (aggregate, aggregate.map(|_| state.to_owned()))
            }
            Some(_) => (None, None),
            None => {
                let item = text("sku").map(|sku| Uuid::new_v5(&journal::ITEM_NAMESPACE, sku.as_bytes()));
                (id("id").or(item), text("status"))
            }
        };
        Self {
            status,
            body_hash: hex(&hash(body)),
            retryable: json["retryable"].as_bool().unwrap_or(false),
            outcome: problem.as_ref().and(text("outcome")),
            problem,
            aggregate,
            state,
            version: json["version"].as_i64(),
        }
    }

    /// Whether this is the reply that its key has from now on.
    pub fn is_final(&self) -> bool {
        match &self.problem {
            None => (200..300).contains(&self.status) && self.status != 202,
            Some(name) => !self.retryable && STORED_REFUSALS.contains(&name.as_str()),
        }
    }

    /// Whether it says that nothing was done.
    pub fn is_not_executed(&self) -> bool {
        self.outcome.as_deref() == Some("not-executed")
    }
}

/// What kind of work was started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Work {
    /// A request handler.
    Handler,
    /// A database statement.
    Sql,
    /// A call to the peer.
    Call,
}

/// One start of work, usually a span.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Start {
    /// The span's id; unique in the list.
    pub id: String,
    /// The span that started it.
    #[serde(default)]
    pub parent: Option<String>,
    pub service: Side,
    pub work: Work,
    /// What it was: a route, a statement's name.
    pub name: String,
    pub correlation_id: String,
    /// Milliseconds left to the deadline when it started (for a call: what it was given); none when it had no
    /// deadline.
    #[serde(default)]
    pub left_ms: Option<i64>,
    /// It only recorded an outcome, which is allowed after the deadline.
    #[serde(default)]
    pub records_outcome: bool,
}

/// One logical call over a hop.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Call {
    /// `order->inventory`, `client->order`.
    pub hop: String,
    pub correlation_id: String,
    /// How often it was sent.
    pub attempts: u32,
}

/// A database session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Session {
    pub service: Side,
    pub pid: i32,
    /// The longest it was seen idle in a transaction.
    pub idle_in_transaction_ms: u64,
}

/// A level that must return to where it was.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Gauge {
    pub service: Side,
    /// `tasks`, `sockets`, `resident_bytes`, …
    pub name: String,
    pub baseline: f64,
    pub now: f64,
    /// How far above the baseline still counts as back: allocators and pools keep some.
    pub slack: f64,
}
