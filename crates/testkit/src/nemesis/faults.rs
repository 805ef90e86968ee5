//! Application of a schedule's faults at their times. Faults at different targets run concurrently, faults at one
//! target one after the other.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::future::try_join_all;
use tokio::time::{Instant, sleep_until};

use super::schedule::{Fault, OnHop, OnNetwork, Schedule, Step, Target};
use crate::TestPair;
use crate::proxy::{self, Direction, Flow, HttpProxy, TcpProxy, When};

/// Starts and ends every fault of the schedule. An error means that a fault could not be undone, not that the pair
/// failed.
pub(super) async fn apply_faults(pair: &TestPair, schedule: &Schedule, start: Instant) -> anyhow::Result<()> {
    let mut targets: BTreeMap<Target, Vec<&Step>> = BTreeMap::new();
    for step in &schedule.steps {
        targets.entry(step.fault.target()).or_default().push(step);
    }
    try_join_all(targets.into_values().map(|steps| apply_at_target(pair, steps, start))).await?;
    Ok(())
}

async fn apply_at_target(pair: &TestPair, steps: Vec<&Step>, start: Instant) -> anyhow::Result<()> {
    for step in steps {
        sleep_until(start + step.at()).await;
        let to_resend = begin(pair, &step.fault).await;
        sleep_until(start + step.until()).await;
        end(pair, &step.fault, to_resend).await?;
    }
    Ok(())
}

/// Starts a fault. For [`OnHop::Resend`] it returns the call to send again when the fault ends.
async fn begin(pair: &TestPair, fault: &Fault) -> Option<usize> {
    match fault {
        Fault::Kill { service, replica } => pair.kill(*service, *replica).await,
        Fault::Leave { service, replica } => {
            pair.stop(*service, *replica).await;
        }
        Fault::Pause { service, replica } => pair.pause(*service, *replica).await,
        Fault::KillPostgres => pair.postgres().kill().await,
        Fault::Hop { hop, calls, spoils } => return damage_calls(&pair.hops()[*hop], calls, *spoils).await,
        Fault::Network { service, spoils } => damage_bytes(pair.network(*service), *spoils).await,
    }
    None
}

async fn end(pair: &TestPair, fault: &Fault, to_resend: Option<usize>) -> anyhow::Result<()> {
    match fault {
        Fault::Kill { service, replica } | Fault::Leave { service, replica } => {
            pair.launch(*service, *replica).await;
        }
        Fault::Pause { service, replica } => pair.resume(*service, *replica).await,
        Fault::KillPostgres => pair.postgres().start_again().await?,
        Fault::Hop { hop, .. } => {
            let hop = &pair.hops()[*hop];
            hop.heal();
            hop.open().await;
            if let Some(id) = to_resend {
                // The service may be down, and then the call is lost. That is a valid outcome.
                let _answer = hop.resend(id).await;
            }
        }
        Fault::Network { service, .. } => pair.network(*service).heal().await,
    }
    Ok(())
}

async fn damage_calls(hop: &HttpProxy, calls: &str, spoils: OnHop) -> Option<usize> {
    let when = When::ending(calls);
    let fault = match spoils {
        OnHop::Delay { request_ms, reply_ms } => proxy::Fault::Delay {
            request: Duration::from_millis(request_ms),
            reply: Duration::from_millis(reply_ms),
        },
        OnHop::LoseRequest { ending } => proxy::Fault::LoseRequest(ending),
        OnHop::LoseReply { ending } => proxy::Fault::LoseReply(ending),
        OnHop::CutReply { after, ending } => proxy::Fault::CutReply { after, ending },
        OnHop::Nonsense { status } => proxy::Fault::ReplaceReply(proxy::Fault::nonsense(status)),
        OnHop::Duplicate { at_once } => proxy::Fault::Duplicate { at_once },
        OnHop::Hold { point } => proxy::Fault::Hold(point),
        OnHop::Refuse => {
            hop.close().await;
            return None;
        }
        OnHop::Resend { back } => {
            let exchanges = hop.exchanges();
            let matching = exchanges.iter().rev().filter(|exchange| when.is_for(&exchange.request.subject()));
            return matching.map(|exchange| exchange.id).nth(back);
        }
    };
    hop.script(when, fault);
    None
}

async fn damage_bytes(network: &TcpProxy, spoils: OnNetwork) {
    match spoils {
        OnNetwork::Slow { ms } => {
            for direction in [Direction::Up, Direction::Down] {
                network.flow(direction, Flow::Pass(Duration::from_millis(ms)));
            }
        }
        OnNetwork::Freeze { direction } => network.flow(direction, Flow::Freeze),
        OnNetwork::Blackhole { direction } => network.flow(direction, Flow::Blackhole),
        OnNetwork::Refuse => network.close().await,
        OnNetwork::CutCommits { cut } => network.cut_every_commit(cut),
        OnNetwork::CutReplies { after } => network.cut_replies_after(after),
    }
}
