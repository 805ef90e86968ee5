//! The journal entry: who moved what from where to where, why, and on what evidence.

use std::borrow::Cow;
use std::sync::Arc;

use idempotency::KeyHash;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::clock::{HybridClock, HybridTime, wall_now};
use crate::hex::hex;
use crate::rule::{Alternative, Decided, NONE, Rule, State};

/// Format of the bytes of entries that this release writes. The bytes are JSON, in which members stand as they come. In
/// format 1, which release 0.1.0 wrote without saying so, they are canonical JSON (RFC 8785).
pub const FORMAT: u32 = 2;

/// One entry. Its JSON is hashed and stored as it was written; the table's other columns are copies for indexes.
///
/// An entry that is about to be written borrows its inputs (`I`) and evidence (`E`) from the decision. An entry that was
/// read owns them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Entry<'a, I = Value, E = Value> {
    /// Format of the entry's bytes: see [`FORMAT`].
    #[serde(default = "first_format")]
    pub format: u32,
    /// Id of the aggregate.
    pub aggregate_id: Uuid,
    /// Kind of the aggregate, such as `order`.
    pub aggregate_kind: Cow<'a, str>,
    /// Refused branches.
    pub alternatives: Vec<Alternative>,
    /// Wall clock of the service.
    #[serde(with = "time::serde::rfc3339")]
    pub at: OffsetDateTime,
    /// Number of the attempt of the step, from 1.
    pub attempt: u32,
    /// Id of the entry that led to this one, in either service; `None` at the root of a request.
    pub causation_id: Option<Uuid>,
    /// Name of the command: `place`, `confirm`, `expire`, …
    pub command: Cow<'a, str>,
    /// SHA-256 of the settings in force, in hex.
    pub config_hash: Cow<'a, str>,
    /// Correlation id of the request, the same in all services.
    pub correlation_id: Cow<'a, str>,
    /// Observations of the middleware: attempts, breaker, waits.
    pub evidence: E,
    /// State before; `none` for the first entry.
    pub from: Cow<'a, str>,
    /// Hybrid time, later than that of every cause.
    pub hlc: HybridTime,
    /// Id of the entry, ordered by time (UUIDv7).
    pub id: Uuid,
    /// Everything that the decision read.
    pub inputs: I,
    /// SHA-256 of the idempotency key, in hex.
    pub key_hash: Option<Cow<'a, str>>,
    /// SHA-256 of the request's or message's payload, in hex: see [`payload_hash`].
    pub payload_hash: Option<Cow<'a, str>>,
    /// Hash of the aggregate's previous entry, in hex.
    pub prev_hash: Option<Cow<'a, str>>,
    /// Authenticated principal, or the name of the sweep.
    pub principal: Cow<'a, str>,
    /// Revision of the code that decided.
    pub revision: Cow<'a, str>,
    /// Name and version of the rule.
    pub rule: Cow<'a, str>,
    /// Name of the service.
    pub service: Cow<'a, str>,
    /// State after.
    pub to: Cow<'a, str>,
    /// W3C trace id, in hex.
    pub trace_id: Option<Cow<'a, str>>,
    /// Version of the aggregate: 1, 2, 3 … without gaps.
    pub version: i64,
}

fn first_format() -> u32 {
    1
}

impl<I: Serialize, E: Serialize> Entry<'_, I, E> {
    /// The entry as JSON. Only the writer of an entry may hash these bytes: an entry that was read and is written again
    /// may have other bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        json(self)
    }
}

/// JSON of a type of our own, whose members have names that are strings.
fn json<T: Serialize>(value: &T) -> Vec<u8> {
    serde_json::to_vec(value)
        .expect("rules, evidence and payloads have maps with names alone, and their parts serialize")
}

/// SHA-256 of an entry's bytes.
pub type EntryHash = [u8; 32];

/// Hashes an entry's bytes.
pub fn hash(body: &[u8]) -> EntryHash {
    Sha256::digest(body).into()
}

/// SHA-256 of a payload's JSON. Sender and receiver hash the same type, so the hashes are equal.
pub fn payload_hash<T: Serialize>(payload: &T) -> [u8; 32] {
    hash(&json(payload))
}

/// Head of an aggregate: its newest entry, as its row has it. So the next entry is chained without reading the journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// Name of the state.
    pub state: &'static str,
    /// Version of the newest entry.
    pub version: i64,
    /// Hash of the newest entry.
    pub hash: EntryHash,
}

/// Cause of a transition: principal, key and request. Clones share the texts.
#[derive(Debug, Clone)]
pub struct Cause {
    /// Authenticated principal, or the name of the sweep.
    pub principal: Arc<str>,
    /// Hash of the request's idempotency key, if it had one.
    pub key_hash: Option<KeyHash>,
    /// Correlation id of the request.
    pub correlation_id: Arc<str>,
    /// Trace id of the request.
    pub trace_id: Option<Arc<str>>,
}

/// A transition about to be sealed.
#[derive(Debug)]
pub struct Draft<'a, R, E> {
    /// Id of the aggregate.
    pub aggregate_id: Uuid,
    /// Head of the aggregate; `None` creates it.
    pub head: Option<Head>,
    /// Name of the command.
    pub command: &'static str,
    /// Cause of the transition.
    pub cause: &'a Cause,
    /// Id of the entry that led to this one.
    pub causation_id: Option<Uuid>,
    /// Decision of the rule.
    pub decided: Decided<'a, R>,
    /// Number of the attempt of the step, from 1.
    pub attempt: u32,
    /// Observations of the middleware.
    pub evidence: E,
    /// SHA-256 of the payload.
    pub payload_hash: Option<[u8; 32]>,
}

/// An entry ready to be appended: its bytes, their hash, and the values of the table's other columns.
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
    /// Hash of the idempotency key of the request that led to it.
    pub key_hash: Option<KeyHash>,
    /// Bytes of the entry.
    pub body: Vec<u8>,
    /// Hash of the bytes.
    pub hash: EntryHash,
}

impl Sealed {
    /// Head of the aggregate after this entry.
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
    /// Creates the journal of `service`, which runs `revision` with the settings that have `config_hash`.
    pub fn new(service: &'static str, revision: &str, config_hash: &str) -> Self {
        Self { service, revision: revision.into(), config_hash: config_hash.into(), clock: Arc::default() }
    }

    /// Name of the service.
    pub fn service(&self) -> &'static str {
        self.service
    }

    /// Hybrid clock of the service.
    pub fn clock(&self) -> &HybridClock {
        &self.clock
    }

    /// Makes the entry of `draft`: gives it id and times, chains it to the previous entry and hashes it.
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
            format: FORMAT,
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
        let body = entry.to_bytes();
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
