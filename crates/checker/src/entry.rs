//! One journal entry as the checker reads it.

use std::fmt;

use journal::Entry;
use journal::feed::Item;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

/// Which of the two services.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Side {
    /// The order service.
    Order,
    /// The inventory service.
    Inventory,
}

impl Side {
    /// The name as it stands in an entry's `service`.
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

/// An entry with its place in the journal and the bytes that were hashed.
#[derive(Debug, Clone, PartialEq)]
pub struct Recorded {
    /// Its sequence number, for people to find it by.
    pub seq: i64,
    /// SHA-256 of `body` as the journal states it, in lower-case hexadecimal.
    pub hash: String,
    /// The canonical bytes.
    pub body: Vec<u8>,
    /// The same, read.
    pub entry: Entry<'static>,
}

impl Recorded {
    /// An item of a journal's feed, whose bytes are the ones that were hashed.
    ///
    /// # Errors
    /// The bytes are not a journal entry of this release.
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
    /// Its sequence number.
    pub seq: i64,
    /// SHA-256 of `body` as the journal states it, in lower-case hexadecimal.
    pub hash: String,
    /// The bytes.
    pub body: Vec<u8>,
    /// Why they cannot be read.
    pub why: String,
    /// The entry's id, where the body is JSON that names it.
    pub id: Option<Uuid>,
    /// The aggregate, likewise.
    pub aggregate: Option<Uuid>,
    /// The aggregate's kind, likewise.
    pub kind: Option<String>,
    /// The aggregate's version, likewise.
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

/// A row of a journal, as far as this release can read it.
#[derive(Debug, Clone, PartialEq)]
#[allow(clippy::large_enum_variant, reason = "nearly all rows are of the large variant")]
pub enum JournalRow {
    /// An entry.
    Entry(Recorded),
    /// Bytes that are none of this release's entries.
    Unreadable(Box<Unreadable>),
}

impl JournalRow {
    /// An item of a journal's feed.
    pub fn of(item: &Item) -> Self {
        Recorded::from_item(item).map_or_else(Self::Unreadable, Self::Entry)
    }

    /// Its sequence number.
    pub fn seq(&self) -> i64 {
        match self {
            Self::Entry(recorded) => recorded.seq,
            Self::Unreadable(row) => row.seq,
        }
    }

    /// The entry, if it can be read.
    pub fn entry(self) -> Option<Recorded> {
        match self {
            Self::Entry(recorded) => Some(recorded),
            Self::Unreadable(_) => None,
        }
    }
}
