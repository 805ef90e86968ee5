//! Faults of an [`HttpProxy`](super::HttpProxy) and the requests to which they apply.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::http::Point;
use super::message::Message;

/// End of a connection whose reply was lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ending {
    /// The connection stays open and silent until the client closes it.
    Hang,
    /// The connection is closed in order.
    Close,
    /// The connection is reset.
    Reset,
}

/// Fault of one exchange. "Delivered" means that the service got the whole request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// The request is delivered after `request`, and the reply reaches the client `reply` after it was given.
    Delay { request: Duration, reply: Duration },
    /// The request is not delivered. `Hang` is a black hole on the way to the service.
    LoseRequest(Ending),
    /// The request is delivered and executed, and the reply is lost. `Hang` is a black hole on the way back.
    LoseReply(Ending),
    /// The request is delivered. The first `after` bytes of the reply, counted from its head, arrive.
    CutReply { after: usize, ending: Ending },
    /// The request is delivered. The client gets these bytes instead of the reply.
    ReplaceReply(Vec<u8>),
    /// The request is not delivered. The client gets these bytes.
    Answer(Vec<u8>),
    /// The request is delivered twice: one after the other, or concurrently on two connections. The client gets the
    /// first reply.
    Duplicate { at_once: bool },
    /// The exchange stops at this point until it is released, even if the client has disconnected. So a request may
    /// arrive late, and requests may overtake each other.
    Hold(Point),
}

impl Fault {
    /// A well-formed reply with this status and a body that is not JSON.
    pub fn nonsense(status: u16) -> Vec<u8> {
        let body = "<html>%%%";
        format!(
            "HTTP/1.1 {status} Nonsense\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        )
        .into_bytes()
    }

    /// Name of the fault in [`Exchange::fault`](super::Exchange).
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

/// Requests to which a fault applies: those whose `METHOD path` contains a text or ends with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct When {
    text: String,
    at_end: bool,
    skip: u32,
    times: Option<u32>,
}

impl When {
    /// Every later request that contains the text.
    pub fn every(contains: &str) -> Self {
        Self { text: contains.to_owned(), at_end: false, skip: 0, times: None }
    }

    /// Every later request whose path ends with the text. `/reservations` matches a reserve, but no confirm or release.
    pub fn ending(text: &str) -> Self {
        Self { at_end: true, ..Self::every(text) }
    }

    /// True if the fault applies to this `METHOD path`.
    pub(crate) fn is_for(&self, subject: &str) -> bool {
        if self.at_end { subject.ends_with(&self.text) } else { subject.contains(&self.text) }
    }

    /// Only the next request that contains the text.
    pub fn next(contains: &str) -> Self {
        Self::every(contains).times(1)
    }

    /// Limits the fault to this many requests.
    #[must_use]
    pub fn times(self, times: u32) -> Self {
        Self { times: Some(times), ..self }
    }

    /// Lets the first `skip` matching requests pass.
    #[must_use]
    pub fn after(self, skip: u32) -> Self {
        Self { skip, ..self }
    }
}

/// The active faults. The first one that matches a request applies.
#[derive(Debug, Default)]
pub(super) struct Script(Vec<(When, Fault)>);

impl Script {
    pub(super) fn add(&mut self, when: When, fault: Fault) {
        self.0.push((when, fault));
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    /// The fault for this request, if any. The request counts for each matching rule up to the rule that applies.
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
