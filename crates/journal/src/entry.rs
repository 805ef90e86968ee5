//! The journal entry: who moved what from where to where, why, and on what evidence.

use std::borrow::Cow;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::canonical;
use crate::clock::{HybridClock, HybridTime, wall_now};
use crate::idempotency::KeyHash;
use crate::rule::{Alternative, Decided, NONE};

/// One entry as it is hashed and kept. Its canonical JSON is the record; the table's other columns are copies
/// for indexes.
///
/// The fields stand in the order of their names, as canonical JSON has them: see [`Entry::canonical`].
/// `J` is how inputs and evidence are held: as JSON that is there already while an entry is made, and taken apart when one
/// is read.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Entry<J = Value> {
    /// Which one.
    pub aggregate_id: Uuid,
    /// `order`, `reservation` or `item`.
    pub aggregate_kind: Cow<'static, str>,
    /// The branches refused.
    pub alternatives: Vec<Alternative>,
    /// The service's wall clock.
    #[serde(with = "time::serde::rfc3339")]
    pub at: OffsetDateTime,
    /// Which attempt of the step, from 1.
    pub attempt: u32,
    /// The entry that caused this one, in either service; `None` at the root of a request.
    pub causation_id: Option<Uuid>,
    /// What was asked: `place`, `confirm`, `expire`, …
    pub command: Cow<'static, str>,
    /// SHA-256 of the settings in force, in hex.
    pub config_hash: String,
    /// The request it belongs to, across services.
    pub correlation_id: String,
    /// What the middleware saw on the way: attempts, breaker, waits.
    pub evidence: J,
    /// The state before; `none` for the first entry.
    pub from: Cow<'static, str>,
    /// After every cause's.
    pub hlc: HybridTime,
    /// Time-ordered (UUIDv7).
    pub id: Uuid,
    /// Everything the decision read.
    pub inputs: J,
    /// SHA-256 of the idempotency key, in hex.
    pub key_hash: Option<String>,
    /// SHA-256 of the request's or message's canonical payload, in hex.
    pub payload_hash: Option<String>,
    /// The hash of this aggregate's previous entry, in hex.
    pub prev_hash: Option<String>,
    /// Who asked: the authenticated principal, or the sweep that did it.
    pub principal: String,
    /// The code that decided.
    pub revision: String,
    /// The decision's name and version.
    pub rule: Cow<'static, str>,
    /// `order` or `inventory`.
    pub service: Cow<'static, str>,
    /// The state after.
    pub to: Cow<'static, str>,
    /// W3C trace id, in hex.
    pub trace_id: Option<String>,
    /// 1, 2, 3 … without gaps.
    pub version: i64,
}

impl<J: Serialize> Entry<J> {
    /// The canonical bytes (RFC 8785): what serde_json writes of fields in the order of their names, of inputs and
    /// evidence that are canonical, and of numbers that are integers. To sort while writing, as a library for any value
    /// must, took a third of all that the services did for an order. The checker compares every entry with what such a
    /// library writes.
    pub fn canonical(&self) -> Vec<u8> {
        // Room for the common one: to grow a buffer to that size step by step costs as much as to fill it.
        let mut bytes = Vec::with_capacity(2_048);
        serde_json::to_writer(&mut bytes, self)
            .expect("an entry holds only strings, integers, lists and maps");
        bytes
    }
}

/// SHA-256 of an entry's canonical bytes.
pub type EntryHash = [u8; 32];

/// Hashes an entry's canonical bytes.
pub fn hash(body: &[u8]) -> EntryHash {
    Sha256::digest(body).into()
}

/// SHA-256 of a payload's canonical JSON: the same at the sender and the receiver.
pub fn payload_hash<T: Serialize>(payload: &T) -> [u8; 32] {
    Sha256::digest(canonical::to_string(payload)).into()
}

/// Lower-case hex.
pub fn hex(bytes: &[u8]) -> String {
    let digit = |nibble: u8| char::from(b"0123456789abcdef"[usize::from(nibble)]);
    let mut text = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        text.push(digit(byte >> 4));
        text.push(digit(byte & 15));
    }
    text
}

/// Where an aggregate stands: kept on its row, so that the next entry can be chained without reading the last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// The state's name.
    pub state: &'static str,
    /// The newest entry's version.
    pub version: i64,
    /// The newest entry's hash.
    pub hash: EntryHash,
}

/// On whose behalf, and because of what.
#[derive(Debug, Clone)]
pub struct Cause {
    /// The authenticated principal, or the sweep.
    pub principal: String,
    /// The idempotency key of the request, if it had one.
    pub key_hash: Option<KeyHash>,
    /// The request's correlation id.
    pub correlation_id: String,
    /// The entry that led to this one.
    pub causation_id: Option<Uuid>,
    /// The request's trace.
    pub trace_id: Option<String>,
}

/// A transition about to be sealed.
#[derive(Debug, Clone)]
pub struct Draft {
    /// Which aggregate.
    pub aggregate_id: Uuid,
    /// Where it stands; `None` creates it.
    pub head: Option<Head>,
    /// What was asked.
    pub command: &'static str,
    /// On whose behalf.
    pub cause: Cause,
    /// The decision.
    pub decided: Decided,
    /// Which attempt of the step, from 1.
    pub attempt: u32,
    /// What the middleware saw; see [`canonical`](crate::canonical()).
    pub evidence: Box<RawValue>,
    /// SHA-256 of the payload.
    pub payload_hash: Option<[u8; 32]>,
}

/// An entry ready to be appended, with its bytes and hash.
#[derive(Debug, Clone)]
pub struct Sealed {
    /// The entry.
    pub entry: Entry<Box<RawValue>>,
    /// Its canonical bytes.
    pub body: Vec<u8>,
    /// Their hash.
    pub hash: EntryHash,
    pub(crate) key_hash: Option<KeyHash>,
    to: &'static str,
}

impl Sealed {
    /// The aggregate's head once this entry is in.
    pub fn head(&self) -> Head {
        Head { state: self.to, version: self.entry.version, hash: self.hash }
    }
}

/// Seals entries for one service. Clones share the clock.
#[derive(Debug, Clone)]
pub struct Journal {
    service: &'static str,
    revision: Arc<str>,
    config_hash: Arc<str>,
    clock: Arc<HybridClock>,
}

impl Journal {
    /// For `service`, running `revision` under the settings hashed as `config_hash`.
    pub fn new(service: &'static str, revision: &str, config_hash: &str) -> Self {
        Self { service, revision: revision.into(), config_hash: config_hash.into(), clock: Arc::default() }
    }

    /// The service's name.
    pub fn service(&self) -> &'static str {
        self.service
    }

    /// The service's hybrid clock.
    pub fn clock(&self) -> &HybridClock {
        &self.clock
    }

    /// Makes the entry of `draft`: stamps, chains and hashes it. Pure but for the clocks and the new id.
    pub fn seal(&self, draft: Draft) -> Sealed {
        let Draft { aggregate_id, head, command, cause, decided, attempt, evidence, payload_hash } = draft;
        let entry = Entry {
            id: Uuid::now_v7(),
            service: self.service.into(),
            aggregate_kind: decided.kind.into(),
            aggregate_id,
            version: head.as_ref().map_or(1, |h| h.version + 1),
            from: head.as_ref().map_or(NONE, |h| h.state).into(),
            to: decided.to.into(),
            command: command.into(),
            principal: cause.principal,
            key_hash: cause.key_hash.as_ref().map(|k| hex(k.as_bytes())),
            correlation_id: cause.correlation_id,
            causation_id: cause.causation_id,
            trace_id: cause.trace_id,
            hlc: self.clock.tick(),
            at: wall_now(),
            attempt,
            rule: decided.rule.into(),
            inputs: decided.inputs,
            alternatives: decided.alternatives,
            evidence,
            revision: self.revision.to_string(),
            config_hash: self.config_hash.to_string(),
            payload_hash: payload_hash.map(|h| hex(&h)),
            prev_hash: head.map(|h| hex(&h.hash)),
        };
        let body = entry.canonical();
        let hash = hash(&body);
        Sealed { entry, body, hash, key_hash: cause.key_hash, to: decided.to }
    }
}
