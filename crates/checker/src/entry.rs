//! A journal's rows as the checker reads them.

use std::fmt;

use journal::Entry;
use journal::feed::Item;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

/// One of the two services.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Side {
    /// The order service.
    Order,
    /// The inventory service.
    Inventory,
}

impl Side {
    /// The name that an entry's `service` has.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Order => "order",
            Self::Inventory => "inventory",
        }
    }
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A journal entry with its sequence number and the bytes that were hashed.
#[derive(Debug, Clone, PartialEq)]
pub struct Recorded {
    /// The sequence number, by which people find the entry.
    pub seq: i64,
    /// SHA-256 of `body` as the journal states it, in lower-case hexadecimal.
    pub hash: String,
    /// The hashed bytes.
    pub body: Vec<u8>,
    /// The entry that `body` holds.
    pub entry: Entry<'static>,
}

impl Recorded {
    /// Reads an item of a journal's feed.
    ///
    /// # Errors
    /// The item's bytes are not a journal entry of this release.
    pub fn from_item(item: &Item) -> Result<Self, Box<Unreadable>> {
        let text = item.entry.get();
        if let Some(bytes) = item.bytes() {
            return Err(Unreadable::of(item, bytes, "the body is not JSON".to_owned()));
        }
        match serde_json::from_str(text) {
            Ok(entry) => Ok(Self { seq: item.seq, hash: item.hash.clone(), body: text.into(), entry }),
            Err(error) => {
                Err(Unreadable::of(item, text.into(), format!("the body is not an entry: {error}")))
            }
        }
    }
}

/// A row of a journal that this release cannot read as an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unreadable {
    /// The sequence number.
    pub seq: i64,
    /// SHA-256 of `body` as the journal states it, in lower-case hexadecimal.
    pub hash: String,
    /// The stored bytes.
    pub body: Vec<u8>,
    /// The reason why they cannot be read.
    pub why: String,
    /// The entry's id; `None` unless the body is JSON that names it, or the row's column is known.
    pub id: Option<Uuid>,
    /// The aggregate's id, under the same condition.
    pub aggregate: Option<Uuid>,
    /// The aggregate's kind, under the same condition.
    pub kind: Option<String>,
    /// The aggregate's version, under the same condition.
    pub version: Option<i64>,
}

impl Unreadable {
    fn of(item: &Item, body: Vec<u8>, why: String) -> Box<Self> {
        let json: Value = serde_json::from_slice(&body).unwrap_or_default();
        let id = |name: &str| json[name].as_str().and_then(|id| id.parse().ok());
        Box::new(Self {
            seq: item.seq,
            hash: item.hash.clone(),
            why,
            id: id("id"),
            aggregate: id("aggregate_id"),
            kind: json["aggregate_kind"].as_str().map(str::to_owned),
            version: json["version"].as_i64(),
            body,
        })
    }
}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the entry with seq {} cannot be read: {}", self.seq, self.why)
    }
}

impl std::error::Error for Unreadable {}

/// A row of a journal: a readable entry, or bytes that this release cannot read.
#[derive(Debug, Clone, PartialEq)]
#[allow(clippy::large_enum_variant, reason = "nearly all rows are of the large variant")]
pub enum JournalRow {
    /// An entry.
    Entry(Recorded),
    /// A row that is not an entry of this release.
    Unreadable(Box<Unreadable>),
}

impl JournalRow {
    /// Reads an item of a journal's feed.
    pub fn of(item: &Item) -> Self {
        Recorded::from_item(item).map_or_else(Self::Unreadable, Self::Entry)
    }

    /// The sequence number.
    pub fn seq(&self) -> i64 {
        match self {
            Self::Entry(recorded) => recorded.seq,
            Self::Unreadable(row) => row.seq,
        }
    }

    /// Returns the entry, if it can be read.
    pub fn entry(self) -> Option<Recorded> {
        match self {
            Self::Entry(recorded) => Some(recorded),
            Self::Unreadable(_) => None,
        }
    }
}
