//! Coming to rest, and to an end.

use std::time::Duration;

use local::Service;
use local::child::Stopped;

use super::{TestPair, dump};
use crate::eventually::eventually;

impl TestPair {
    /// Waits until nothing is in flight: no order that inventory still has to be asked about, no key without its
    /// final reply.
    pub async fn settle(&self, within: Duration) {
        eventually("the pair settles", within, || self.is_settled()).await;
    }

    /// `Ok` when nothing is in flight; otherwise what is.
    pub async fn is_settled(&self) -> anyhow::Result<()> {
        dump::unsettled(self).await
    }

    /// Has every process shut down in good order, and what was the pair's own with them.
    pub async fn end(self) -> anyhow::Result<()> {
        for service in Service::BOTH {
            for replica in 0..self.replicas(service).len() {
                let stopped = self.stop(service, replica).await;
                anyhow::ensure!(matches!(stopped, Stopped::ByItself(_)), "{service} {replica}: {stopped:?}");
            }
        }
        match self.postgres {
            Some(own) => own.end().await,
            None => Ok(()),
        }
    }
}
