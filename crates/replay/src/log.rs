//! The log of customers' requests and replies, for the checker.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use checker::{ClientReply, ClientRequest, Side};
use http::Response;
use journal::KeyHash;
use journal::hex;
use local::Service;
use mainstay::headers::X_CORRELATION_ID;
use mainstay::{CallError, Outcome};

/// A log of requests. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct RequestLog(Arc<Mutex<Vec<ClientRequest>>>);

impl RequestLog {
    pub fn requests(&self) -> Vec<ClientRequest> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn push(&self, service: Service, key: &str, answer: &Result<Response<Bytes>, CallError>) {
        // The principals of a shop's tokens, by the names that the private pair gives them.
        let (service, principal) = match service {
            Service::Order => (Side::Order, "client"),
            Service::Inventory => (Side::Inventory, "operator"),
        };
        let reply = match answer {
            Ok(reply) => Some(ClientReply::read(service, reply.status().as_u16(), reply.body())),
            // A request that was never sent counts as not executed.
            Err(error) if matches!(error.outcome(), Outcome::RejectedUnsent | Outcome::FailedKnown) => {
                Some(ClientReply { outcome: Some("not-executed".to_owned()), ..ClientReply::default() })
            }
            Err(_unknown) => None,
        };
        let correlation = answer.as_ref().ok().and_then(|reply| reply.headers().get(X_CORRELATION_ID));
        let request = ClientRequest {
            service,
            principal: principal.to_owned(),
            key_hash: Some(hex(KeyHash::of(key).as_bytes())),
            correlation_id: correlation.and_then(|id| id.to_str().ok()).unwrap_or_default().to_owned(),
            reply,
        };
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(request);
    }
}
