//! Waiting until a pair is at rest, and shutting it down.

use std::time::Duration;

use local::Service;
use local::child::Stopped;

use super::{TestPair, dump};
use crate::eventually::eventually;

impl TestPair {
    /// Waits until nothing is in flight: no order waits for inventory, and every idempotency key has its final reply.
    pub async fn settle(&self, within: Duration) {
        eventually("the pair settles", within, || self.is_settled()).await;
    }

    /// `Ok` when nothing is in flight. Otherwise the error lists the work in flight.
    pub async fn is_settled(&self) -> anyhow::Result<()> {
        dump::unsettled(self).await
    }

    /// Shuts down every process and, if the pair has its own PostgreSQL, the cluster. Fails if a process does not exit
    /// by itself.
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
