//! The journal entry: who moved what from where to where, why, and on what evidence.

use std::borrow::Cow;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::canonical;
use crate::clock::{HybridClock, HybridTime, wall_now};
use crate::idempotency::KeyHash;
use crate::rule::{Alternative, Decided, NONE, Rule, State};

/// One entry as it is hashed and kept. Its canonical JSON is the record; the table's other columns are copies
/// for indexes.
///
/// One that is sealed borrows what it says, inputs (`I`) and evidence (`E`) in the types they were decided on; one that is
/// read owns it. The fields stand in the order of their names, as canonical JSON has them, so that none has to be moved.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Entry<'a, I = Value, E = Value> {
    /// Which one.
    pub aggregate_id: Uuid,
    /// `order`, `reservation` or `item`.
    pub aggregate_kind: Cow<'a, str>,
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
    pub command: Cow<'a, str>,
    /// SHA-256 of the settings in force, in hex.
    pub config_hash: Cow<'a, str>,
    /// The request it belongs to, across services.
    pub correlation_id: Cow<'a, str>,
    /// What the middleware saw on the way: attempts, breaker, waits.
    pub evidence: E,
    /// The state before; `none` for the first entry.
    pub from: Cow<'a, str>,
    /// After every cause's.
    pub hlc: HybridTime,
    /// Time-ordered (UUIDv7).
    pub id: Uuid,
    /// Everything the decision read.
    pub inputs: I,
    /// SHA-256 of the idempotency key, in hex.
    pub key_hash: Option<Cow<'a, str>>,
    /// SHA-256 of the request's or message's canonical payload, in hex.
    pub payload_hash: Option<Cow<'a, str>>,
    /// The hash of this aggregate's previous entry, in hex.
    pub prev_hash: Option<Cow<'a, str>>,
    /// Who asked: the authenticated principal, or the sweep that did it.
    pub principal: Cow<'a, str>,
    /// The code that decided.
    pub revision: Cow<'a, str>,
    /// The decision's name and version.
    pub rule: Cow<'a, str>,
    /// `order` or `inventory`.
    pub service: Cow<'a, str>,
    /// The state after.
    pub to: Cow<'a, str>,
    /// W3C trace id, in hex.
    pub trace_id: Option<Cow<'a, str>>,
    /// 1, 2, 3 … without gaps.
    pub version: i64,
}

impl<I: Serialize, E: Serialize> Entry<'_, I, E> {
    /// The canonical bytes (RFC 8785). The checker compares every entry with what a library for any value writes.
    pub fn canonical(&self) -> Vec<u8> {
        canonical::to_vec(self)
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
    Sha256::digest(canonical::to_vec(payload)).into()
}

/// Lower-case hex.
pub fn hex(bytes: &[u8]) -> String {
    let digit = |nibble: u8| b"0123456789abcdef"[usize::from(nibble)];
    let mut text = vec![0; 2 * bytes.len()];
    for (byte, pair) in bytes.iter().zip(text.chunks_exact_mut(2)) {
        pair.copy_from_slice(&[digit(byte >> 4), digit(byte & 15)]);
    }
    String::from_utf8(text).expect("hex digits are ASCII")
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

/// On whose behalf. Clones share it.
#[derive(Debug, Clone)]
pub struct Cause {
    /// The authenticated principal, or the sweep.
    pub principal: Arc<str>,
    /// The idempotency key of the request, if it had one.
    pub key_hash: Option<KeyHash>,
    /// The request's correlation id.
    pub correlation_id: Arc<str>,
    /// The request's trace.
    pub trace_id: Option<Arc<str>>,
}

/// A transition about to be sealed.
#[derive(Debug)]
pub struct Draft<'a, R, E> {
    /// Which aggregate.
    pub aggregate_id: Uuid,
    /// Where it stands; `None` creates it.
    pub head: Option<Head>,
    /// What was asked.
    pub command: &'static str,
    /// On whose behalf.
    pub cause: &'a Cause,
    /// The entry that led to this one.
    pub causation_id: Option<Uuid>,
    /// The decision.
    pub decided: Decided<'a, R>,
    /// Which attempt of the step, from 1.
    pub attempt: u32,
    /// What the middleware saw.
    pub evidence: E,
    /// SHA-256 of the payload.
    pub payload_hash: Option<[u8; 32]>,
}

/// An entry ready to be appended: its canonical bytes, their hash, and what the table has columns for.
#[derive(Debug, Clone)]
pub struct Sealed {
    /// [`Entry::id`].
    pub id: Uuid,
    /// [`Entry::aggregate_kind`].
    pub aggregate_kind: &'static str,
    /// [`Entry::aggregate_id`].
    pub aggregate_id: Uuid,
    /// [`Entry::version`].
    pub version: i64,
    /// [`Entry::from`].
    pub from: &'static str,
    /// [`Entry::to`].
    pub to: &'static str,
    /// [`Entry::correlation_id`].
    pub correlation_id: Arc<str>,
    /// [`Entry::trace_id`].
    pub trace_id: Option<Arc<str>>,
    /// [`Entry::hlc`].
    pub hlc: HybridTime,
    /// [`Entry::at`].
    pub at: OffsetDateTime,
    /// The key whose request led to it.
    pub key_hash: Option<KeyHash>,
    /// The canonical bytes.
    pub body: Vec<u8>,
    /// Their hash.
    pub hash: EntryHash,
}

impl Sealed {
    /// The aggregate's head once this entry is in.
    pub fn head(&self) -> Head {
        Head { state: self.to, version: self.version, hash: self.hash }
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
    pub fn seal<R: Rule, E: Serialize>(&self, draft: Draft<'_, R, E>) -> Sealed {
        let Draft {
            aggregate_id,
            head,
            command,
            cause,
            causation_id,
            decided,
            attempt,
            evidence,
            payload_hash,
        } = draft;
        let (id, hlc, at) = (Uuid::now_v7(), self.clock.tick(), wall_now());
        let (kind, to) = (R::State::KIND, decided.to);
        let (version, from) = head.as_ref().map_or((1, NONE), |head| (head.version + 1, head.state));
        let entry = Entry {
            id,
            service: self.service.into(),
            aggregate_kind: kind.into(),
            aggregate_id,
            version,
            from: from.into(),
            to: to.into(),
            command: command.into(),
            principal: (&*cause.principal).into(),
            key_hash: cause.key_hash.map(|key| hex(key.as_bytes()).into()),
            correlation_id: (&*cause.correlation_id).into(),
            causation_id,
            trace_id: cause.trace_id.as_deref().map(Cow::from),
            hlc,
            at,
            attempt,
            rule: R::NAME.into(),
            inputs: decided.rule,
            alternatives: decided.alternatives,
            evidence,
            revision: (&*self.revision).into(),
            config_hash: (&*self.config_hash).into(),
            payload_hash: payload_hash.map(|hash| hex(&hash).into()),
            prev_hash: head.map(|head| hex(&head.hash).into()),
        };
        let body = entry.canonical();
        let hash = hash(&body);
        Sealed {
            id,
            aggregate_kind: kind,
            aggregate_id,
            version,
            from,
            to,
            correlation_id: Arc::clone(&cause.correlation_id),
            trace_id: cause.trace_id.clone(),
            hlc,
            at,
            key_hash: cause.key_hash,
            body,
            hash,
        }
    }
}
