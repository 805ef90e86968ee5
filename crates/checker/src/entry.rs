//! One journal entry as the checker reads it.

use std::fmt;

use journal::Entry;
use journal::feed::Item;
use serde::{Deserialize, Serialize};

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
    /// The bytes are not a journal entry.
    pub fn from_item(item: &Item) -> Result<Self, serde_json::Error> {
        let text = item.entry.get();
        let entry = serde_json::from_str(text)?;
        Ok(Self { seq: item.seq, hash: item.hash.clone(), body: text.as_bytes().to_vec(), entry })
    }
}
