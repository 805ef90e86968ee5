//! What an [`HttpProxy`](super::HttpProxy) does to which request.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::http::Point;
use super::message::Message;

/// How a connection ends after its reply was taken away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ending {
    /// It stays open and silent until the client gives up.
    Hang,
    /// It is closed in order.
    Close,
    /// It is reset.
    Reset,
}

/// What is done to one exchange. "Delivered" means that the service got the whole request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// Delivered after `request`, answered `reply` later.
    Delay { request: Duration, reply: Duration },
    /// Not delivered; the connection ends so. `Hang` is a black hole on the way there.
    LoseRequest(Ending),
    /// Delivered and carried out; the answer is lost. `Hang` is a black hole on the way back.
    LoseReply(Ending),
    /// Delivered; this many bytes of the reply arrive, head included, and then the connection ends.
    CutReply { after: usize, ending: Ending },
    /// Delivered; the client reads these bytes instead of the reply.
    ReplaceReply(Vec<u8>),
    /// Not delivered; the client reads these bytes.
    Answer(Vec<u8>),
    /// Delivered twice, one after the other or at once on two connections; the client reads the first reply.
    Duplicate { at_once: bool },
    /// Stops at the point until released, even when the client has left: a request may then arrive late, and
    /// requests may overtake each other.
    Hold(Point),
}

impl Fault {
    /// A well-formed reply of this status with a body that is no JSON.
    pub fn nonsense(status: u16) -> Vec<u8> {
        let body = "<html>%%%";
        format!(
            "HTTP/1.1 {status} Nonsense\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        )
        .into_bytes()
    }

    /// Its name in the record of exchanges.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Delay { .. } => "delay",
            Self::LoseRequest(_) => "lose-request",
            Self::LoseReply(_) => "lose-reply",
            Self::CutReply { .. } => "cut-reply",
            Self::ReplaceReply(_) => "replace-reply",
            Self::Answer(_) => "answer",
            Self::Duplicate { .. } => "duplicate",
            Self::Hold(_) => "hold",
        }
    }
}

/// Which requests a fault is for: those whose `METHOD path` contains a text, or ends with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct When {
    text: String,
    at_end: bool,
    skip: u32,
    times: Option<u32>,
}

impl When {
    /// Every one from now on.
    pub fn every(contains: &str) -> Self {
        Self { text: contains.to_owned(), at_end: false, skip: 0, times: None }
    }

    /// Every one from now on whose path ends so: `/reservations` is a reserve, and no confirm or release.
    pub fn ending(text: &str) -> Self {
        Self { at_end: true, ..Self::every(text) }
    }

    /// Whether it is for this `METHOD path`.
    pub(crate) fn is_for(&self, subject: &str) -> bool {
        if self.at_end { subject.ends_with(&self.text) } else { subject.contains(&self.text) }
    }

    /// The next one only.
    pub fn next(contains: &str) -> Self {
        Self::every(contains).times(1)
    }

    /// At most this many.
    #[must_use]
    pub fn times(self, times: u32) -> Self {
        Self { times: Some(times), ..self }
    }

    /// But not the first `skip`.
    #[must_use]
    pub fn after(self, skip: u32) -> Self {
        Self { skip, ..self }
    }
}

/// The faults that are in force, first match first.
#[derive(Debug, Default)]
pub(super) struct Script(Vec<(When, Fault)>);

impl Script {
    pub(super) fn add(&mut self, when: When, fault: Fault) {
        self.0.push((when, fault));
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    /// The fault for this request. Counts it against every rule that it matches up to the one that applies.
    pub(super) fn take(&mut self, request: &Message) -> Option<Fault> {
        let subject = request.subject();
        let index = self.0.iter_mut().position(|(when, _)| {
            if !when.is_for(&subject) {
                return false;
            }
            if when.skip > 0 {
                when.skip -= 1;
                return false;
            }
            true
        })?;
        let (when, fault) = &mut self.0[index];
        let fault = fault.clone();
        if let Some(times) = &mut when.times {
            *times = times.saturating_sub(1);
            if *times == 0 {
                self.0.remove(index);
            }
        }
        Some(fault)
    }
}
