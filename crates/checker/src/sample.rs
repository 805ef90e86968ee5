//! A small healthy history of both services, for tests of the checker and of its users.
//!
//! The orders repeat seven cases: confirmed, cancelled, refused because stock is short, confirmed after two lost
//! replies, expired, still held, and cancelled before its reserve arrived. Nothing is random, so that a corrupted
//! copy differs from the healthy history only in the part that a test changed.

use std::collections::HashMap;

use journal::entry::{Entry, FORMAT, hash};
use journal::hex;
use journal::rule::{Alternative, NONE, ReplayError};
use journal::{ITEM_NAMESPACE, KeyHash};
use serde::de::Error as _;
use serde_json::{Value, json};
use time::{Duration, OffsetDateTime};
use uuid::Uuid;

use crate::{
    Call, ClientReply, ClientRequest, Contract, Gauge, ItemRow, JournalTable, KeyRow, Line, Observed,
    OrderRow, Recorded, ReservationRow, Session, Side, Start, StoredReply, Tables, Work,
};

/// Both journals, interleaved in commit order, and all other observations.
#[derive(Debug, Clone)]
pub struct History {
    /// Each entry with its service.
    pub entries: Vec<(Side, Recorded)>,
    /// Tables, requests, starts and the rest, at rest.
    pub observed: Observed,
}

/// The principal that places the orders.
pub const CUSTOMER: &str = "alice";
/// The order service's principal at inventory.
pub const PEER: &str = "order-service";
/// A SKU with enough stock for every order.
pub const PLENTY: &str = "85123A";
/// A SKU with one piece in stock.
pub const SCARCE: &str = "22086";

const TRANSITIONS: [(&str, &str, &str); 27] = [
    ("item", NONE, "stocked"),
    ("item", "stocked", "stocked"),
    ("order", NONE, "reserving"),
    ("order", "reserving", "reserved"),
    ("order", "reserving", "rejected"),
    ("order", "reserving", "reserve_unknown"),
    ("order", "reserving", "cancelling"),
    ("order", "reserve_unknown", "reserved"),
    ("order", "reserve_unknown", "rejected"),
    ("order", "reserve_unknown", "cancelling"),
    ("order", "reserved", "confirming"),
    ("order", "reserved", "cancelling"),
    ("order", "reserved", "expired"),
    ("order", "confirming", "confirmed"),
    ("order", "confirming", "confirm_unknown"),
    ("order", "confirming", "expired"),
    ("order", "confirm_unknown", "confirmed"),
    ("order", "confirm_unknown", "expired"),
    ("order", "cancelling", "cancelled"),
    ("order", "cancelling", "cancel_unknown"),
    ("order", "cancel_unknown", "cancelled"),
    ("reservation", NONE, "held"),
    ("reservation", NONE, "refused"),
    ("reservation", NONE, "voided"),
    ("reservation", "held", "confirmed"),
    ("reservation", "held", "released"),
    ("reservation", "held", "expired"),
];

/// The contract of the [`healthy`] history.
pub fn contract() -> Contract<'static> {
    Contract::new(TRANSITIONS, decide)
}

/// The rules of the sample. `sample.heard` reaches the state that its inputs name; `sample.reserve` compares the
/// lines with the stock.
fn decide(rule: &str, inputs: &Value) -> Result<String, ReplayError> {
    let unfit =
        |what: String| ReplayError::Inputs { rule: "sample", source: serde_json::Error::custom(what) };
    let text = |name: &str| inputs[name].as_str().ok_or_else(|| unfit(format!("no {name}")));
    match rule {
        "sample.heard@1" => Ok(text("heard")?.to_owned()),
        "sample.reserve@1" => {
            let lines = inputs["lines"].as_array().ok_or_else(|| unfit("no lines".to_owned()))?;
            let short = lines.iter().any(|line| {
                let number = |value: &Value| value.as_i64().unwrap_or_default();
                let stock = &line["stock"];
                number(&line["quantity"]) > number(&stock["on_hand"]) - number(&stock["held"])
            });
            Ok(if short { "refused" } else { "held" }.to_owned())
        }
        unknown => Err(ReplayError::UnknownRule(unknown.to_owned())),
    }
}

/// Creates a history of `orders` orders.
pub fn healthy(orders: usize) -> History {
    let mut book = Book::new();
    book.receive(PLENTY, 1_000 * i64::try_from(orders).unwrap_or(i64::MAX / 1_000) + 1_000);
    book.receive(SCARCE, 1);
    book.receive(PLENTY, 50);
    for number in 0..orders {
        book.order(number);
    }
    book.history()
}

impl History {
    /// Checks the history against `contract`.
    pub fn check(&self, contract: &Contract<'_>) -> crate::Report {
        let mut checker = crate::Checker::new(contract);
        for (side, recorded) in &self.entries {
            checker.entry(*side, recorded);
        }
        checker.finish(&self.observed)
    }

    /// Computes bodies, hashes and chains again, in the tables too, so that an entry that a test changed is wrong
    /// only in that change.
    pub fn reseal(&mut self) {
        let mut heads: HashMap<Uuid, String> = HashMap::new();
        for (_, recorded) in &mut self.entries {
            recorded.entry.prev_hash = heads.get(&recorded.entry.aggregate_id).cloned().map(Into::into);
            recorded.body = recorded.entry.to_bytes();
            recorded.hash = hex(&hash(&recorded.body));
            heads.insert(recorded.entry.aggregate_id, recorded.hash.clone());
        }
        let head = |id: Uuid, hash: &mut String| {
            if let Some(new) = heads.get(&id) {
                hash.clone_from(new);
            }
        };
        if let Some(tables) = &mut self.observed.tables {
            tables.orders.iter_mut().for_each(|row| head(row.id, &mut row.head_hash));
            tables.reservations.iter_mut().for_each(|row| head(row.id, &mut row.head_hash));
            tables.items.iter_mut().for_each(|row| head(item_id(&row.sku), &mut row.head_hash));
        }
    }
}

/// The aggregate id of a SKU.
pub fn item_id(sku: &str) -> Uuid {
    Uuid::new_v5(&ITEM_NAMESPACE, sku.as_bytes())
}

/// One transition of an aggregate, before its entry is hashed.
struct Move<'a> {
    side: Side,
    kind: &'a str,
    id: Uuid,
    to: &'a str,
    command: &'a str,
    principal: &'a str,
    key: Option<String>,
    correlation: &'a str,
    cause: Option<Uuid>,
    rule: &'a str,
    inputs: Value,
}

/// Writer of the history.
struct Book {
    entries: Vec<(Side, Recorded)>,
    heads: HashMap<Uuid, (String, i64, String)>,
    tables: Tables,
    requests: Vec<ClientRequest>,
    starts: Vec<Start>,
    calls: Vec<Call>,
    now: OffsetDateTime,
}

impl Book {
    fn new() -> Self {
        Self {
            entries: Vec::new(),
            heads: HashMap::new(),
            tables: Tables::default(),
            requests: Vec::new(),
            starts: Vec::new(),
            calls: Vec::new(),
            now: OffsetDateTime::UNIX_EPOCH + Duration::days(20_000),
        }
    }

    /// Appends an entry one millisecond after the last one and returns its id.
    fn write(&mut self, step: Move<'_>) -> Uuid {
        self.now += Duration::milliseconds(1);
        let count = self.entries.len() + 1;
        let (from, version, prev_hash) = match self.heads.get(&step.id) {
            Some((state, version, hash)) => (state.clone(), *version, Some(hash.clone())),
            None => (NONE.to_owned(), 0, None),
        };
        let millis = self.now.unix_timestamp_nanos() / 1_000_000;
        let hlc = format!("{:016x}", millis << 16).parse().expect("16 digits");
        let entry = Entry {
            format: FORMAT,
            id: Uuid::new_v5(&Uuid::NAMESPACE_OID, format!("entry {count}").as_bytes()),
            service: step.side.as_str().into(),
            aggregate_kind: step.kind.to_owned().into(),
            aggregate_id: step.id,
            version: version + 1,
            from: from.into(),
            to: step.to.to_owned().into(),
            command: step.command.to_owned().into(),
            principal: step.principal.to_owned().into(),
            key_hash: step.key.map(Into::into),
            correlation_id: step.correlation.to_owned().into(),
            causation_id: step.cause,
            trace_id: None,
            hlc,
            at: self.now,
            attempt: 1,
            rule: step.rule.to_owned().into(),
            inputs: step.inputs,
            alternatives: vec![Alternative {
                to: "elsewhere".into(),
                refused_because: "the sample knows no other way".into(),
            }],
            evidence: json!([]),
            revision: "sample".into(),
            config_hash: hex(&hash(b"sample")).into(),
            payload_hash: None,
            prev_hash: prev_hash.map(Into::into),
        };
        let body = entry.to_bytes();
        let hash = hex(&hash(&body));
        let id = entry.id;
        self.heads.insert(step.id, (step.to.to_owned(), version + 1, hash.clone()));
        let seq = i64::try_from(count).expect("a sample is small");
        self.entries.push((step.side, Recorded { seq, hash, body, entry }));
        id
    }

    fn receive(&mut self, sku: &str, quantity: i64) {
        let count = self.entries.len();
        self.write(Move {
            side: Side::Inventory,
            kind: "item",
            id: item_id(sku),
            to: "stocked",
            command: "receive",
            principal: "operator",
            key: Some(key(&format!("receive {count}"))),
            correlation: &format!("stock-{count}"),
            cause: None,
            rule: "sample.heard@1",
            inputs: json!({"heard": "stocked", "sku": sku, "quantity": quantity}),
        });
        match self.tables.items.iter_mut().find(|row| row.sku == sku) {
            Some(row) => row.on_hand += quantity,
            None => self.tables.items.push(ItemRow {
                sku: sku.to_owned(),
                on_hand: quantity,
                held: 0,
                version: 0,
                head_hash: String::new(),
            }),
        }
    }

    fn order(&mut self, number: usize) {
        let name = format!("order {number}");
        let id = Uuid::new_v5(&Uuid::NAMESPACE_OID, name.as_bytes());
        let mut order = Placing {
            id,
            reservation: Uuid::new_v5(&id, b"reservation"),
            correlation: name.replace(' ', "-"),
            lines: vec![Line { sku: PLENTY.to_owned(), quantity: 6 }],
            last: None,
        };
        if number % 7 == 2 {
            order.lines.push(Line { sku: SCARCE.to_owned(), quantity: 2 });
        }
        order.says(self, "place", "reserving");
        match number % 7 {
            0 => {
                order.reserves(self, "held");
                order.says(self, "heard", "reserved");
                self.answer(&order, "place", 201, "reserved");
                order.says(self, "confirm", "confirming");
                order.moves(self, "confirmed");
                order.says(self, "heard", "confirmed");
                self.answer(&order, "confirm", 200, "confirmed");
            }
            1 => {
                order.reserves(self, "held");
                order.says(self, "heard", "reserved");
                self.answer(&order, "place", 201, "reserved");
                order.says(self, "cancel", "cancelling");
                order.moves(self, "released");
                order.says(self, "heard", "cancelled");
                self.answer(&order, "cancel", 200, "cancelled");
            }
            2 => {
                order.reserves(self, "refused");
                order.says(self, "heard", "rejected");
                self.answer(&order, "place", 409, "rejected");
            }
            3 => {
                let asked = order.last;
                order.says(self, "silence", "reserve_unknown");
                order.last = asked;
                order.reserves(self, "held");
                order.says(self, "heard", "reserved");
                self.answer(&order, "place", 201, "reserved");
                order.says(self, "confirm", "confirming");
                let asked = order.last;
                order.says(self, "silence", "confirm_unknown");
                order.last = asked;
                order.moves(self, "confirmed");
                order.says(self, "heard", "confirmed");
                self.answer(&order, "confirm", 200, "confirmed");
            }
            4 => {
                order.reserves(self, "held");
                order.says(self, "heard", "reserved");
                self.answer(&order, "place", 201, "reserved");
                order.moves(self, "expired");
                order.says(self, "heard", "expired");
            }
            5 => {
                order.reserves(self, "held");
                order.says(self, "heard", "reserved");
                self.answer(&order, "place", 201, "reserved");
            }
            _ => {
                order.says(self, "silence", "reserve_unknown");
                order.says(self, "cancel", "cancelling");
                order.moves(self, "voided");
                order.says(self, "heard", "cancelled");
                self.answer(&order, "cancel", 200, "cancelled");
            }
        }
        self.rows(order);
    }

    /// Records the client's requests: one shed, one without a reply, and two with the same reply.
    fn answer(&mut self, order: &Placing, command: &str, status: u16, state: &str) {
        let (_, version, _) = &self.heads[&order.id];
        let body_hash = hex(&hash(format!("{} {state}", order.id).as_bytes()));
        let reply = ClientReply {
            status,
            body_hash: body_hash.clone(),
            problem: (status >= 400).then(|| "insufficient-stock".to_owned()),
            retryable: false,
            outcome: (status >= 400).then(|| "refused".to_owned()),
            aggregate: Some(order.id),
            state: Some(state.to_owned()),
            version: Some(*version),
        };
        let key_hash = key(&format!("{command} {}", order.id));
        let request = ClientRequest {
            service: Side::Order,
            principal: CUSTOMER.to_owned(),
            key_hash: Some(key_hash.clone()),
            correlation_id: order.correlation.clone(),
            reply: Some(reply.clone()),
        };
        let refused = ClientReply {
            status: 503,
            problem: Some("overloaded".to_owned()),
            retryable: true,
            outcome: Some("not-executed".to_owned()),
            ..ClientReply::default()
        };
        let shed = Some(key(&format!("shed {command} {}", order.id)));
        self.requests.extend([
            ClientRequest { key_hash: shed, reply: Some(refused), ..request.clone() },
            ClientRequest { reply: None, ..request.clone() },
            request.clone(),
            request,
        ]);
        self.tables.keys.push(KeyRow {
            service: Side::Order,
            principal: CUSTOMER.to_owned(),
            key_hash,
            aggregate_id: Some(order.id),
            reply: Some(StoredReply { status, body_hash }),
            told: None,
            entry_id: None,
        });
        let (id, call) = (format!("{command} {}", order.id), Work::Call);
        let start = |id: &str, parent: Option<&str>, service, work, left| Start {
            id: id.to_owned(),
            parent: parent.map(str::to_owned),
            service,
            work,
            name: command.to_owned(),
            correlation_id: order.correlation.clone(),
            left_ms: Some(left),
            records_outcome: false,
        };
        let (out, there) = (format!("{id} out"), format!("{id} there"));
        self.starts.extend([
            start(&id, None, Side::Order, Work::Handler, 2_000),
            start(&out, Some(&id), Side::Order, call, 1_990),
            start(&there, Some(&out), Side::Inventory, Work::Handler, 1_940),
            start(&format!("{id} sql"), Some(&there), Side::Inventory, Work::Sql, 1_939),
        ]);
        self.calls.push(Call {
            hop: "order->inventory".to_owned(),
            correlation_id: order.correlation.clone(),
            attempts: 1,
        });
    }

    fn rows(&mut self, order: Placing) {
        let Some((status, version, head_hash)) = self.heads.get(&order.id).cloned() else { return };
        self.tables.orders.push(OrderRow {
            id: order.id,
            principal: CUSTOMER.to_owned(),
            status,
            version,
            head_hash,
            lines: Some(order.lines.clone()),
            reservation_id: Some(order.reservation),
            expires_at: Some(self.now + Duration::minutes(15)),
        });
        let Some((status, version, head_hash)) = self.heads.get(&order.reservation).cloned() else { return };
        let seen = status != "voided";
        if let Some(row) = self.tables.items.iter_mut().find(|row| row.sku == PLENTY) {
            match status.as_str() {
                "held" => row.held += 6,
                "confirmed" => row.on_hand -= 6,
                _ => {}
            }
        }
        self.tables.reservations.push(ReservationRow {
            id: order.reservation,
            order_id: seen.then_some(order.id),
            status,
            version,
            head_hash,
            lines: Some(if seen { order.lines } else { Vec::new() }),
        });
    }

    fn history(mut self) -> History {
        for row in &mut self.tables.items {
            let (_, version, head_hash) = &self.heads[&item_id(&row.sku)];
            row.version = *version;
            row.head_hash.clone_from(head_hash);
        }
        let gauge = |name: &str| Gauge {
            service: Side::Order,
            name: name.to_owned(),
            baseline: 40.0,
            now: 41.0,
            slack: 2.0,
        };
        let table = |service: Side| {
            let rows = self.entries.iter().filter(|(side, _)| *side == service).count() as u64;
            JournalTable { service, rows, given: rows, hidden: Vec::new(), miscopied: Vec::new() }
        };
        let observed = Observed {
            at_rest: true,
            one_snapshot: true,
            now: Some(self.now),
            tables: Some(self.tables),
            unread: Vec::new(),
            journals: [Side::Order, Side::Inventory].map(table).into(),
            requests: self.requests,
            starts: self.starts,
            calls: self.calls,
            watched_secs: 1.0,
            sessions: vec![Session { service: Side::Order, pid: 7, idle_in_transaction_ms: 12 }],
            gauges: ["tasks", "sockets"].map(gauge).into(),
        };
        History { entries: self.entries, observed }
    }
}

/// An order that is being written.
struct Placing {
    id: Uuid,
    reservation: Uuid,
    correlation: String,
    lines: Vec<Line>,
    /// The cause of the next entry.
    last: Option<Uuid>,
}

impl Placing {
    /// Writes an entry of the order: for a client's command, which is the root of a request, or for inventory's
    /// answer.
    fn says(&mut self, book: &mut Book, command: &str, to: &str) {
        let asked = matches!(command, "place" | "confirm" | "cancel");
        let step = Move {
            side: Side::Order,
            kind: "order",
            id: self.id,
            to,
            command,
            principal: CUSTOMER,
            key: asked.then(|| key(&format!("{command} {}", self.id))),
            correlation: &self.correlation,
            cause: self.last.filter(|_| !asked),
            rule: "sample.heard@1",
            inputs: json!({"heard": to, "lines": self.lines, "reservation_id": self.reservation}),
        };
        self.last = Some(book.write(step));
    }

    /// Writes inventory's answer to the reserve.
    fn reserves(&mut self, book: &mut Book, to: &str) {
        let stock = |line: &Line| {
            let row = book.tables.items.iter().find(|row| row.sku == line.sku);
            row.map(|row| json!({"on_hand": row.on_hand, "held": row.held}))
        };
        let read = |line: &Line| json!({"sku": line.sku, "quantity": line.quantity, "stock": stock(line)});
        let lines: Vec<_> = self.lines.iter().map(read).collect();
        self.inventory(book, to, "sample.reserve@1", json!({"order_id": self.id, "lines": lines}));
    }

    /// Writes a transition of the reservation.
    fn moves(&mut self, book: &mut Book, to: &str) {
        self.inventory(book, to, "sample.heard@1", json!({"heard": to}));
    }

    fn inventory(&mut self, book: &mut Book, to: &str, rule: &str, inputs: Value) {
        let step = Move {
            side: Side::Inventory,
            kind: "reservation",
            id: self.reservation,
            to,
            command: to,
            principal: PEER,
            key: Some(key(&format!("{to} {}", self.id))),
            correlation: &self.correlation,
            cause: self.last,
            rule,
            inputs,
        };
        self.last = Some(book.write(step));
    }
}

/// The hash of an idempotency key.
pub fn key(text: &str) -> String {
    hex(KeyHash::of(text).as_bytes())
}
