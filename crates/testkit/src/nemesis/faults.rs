//! Doing what the schedule says, at its time. Places are independent of each other; at one place, one fault follows the
//! other.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::future::try_join_all;
use tokio::time::{Instant, sleep_until};

use super::schedule::{Fault, OnHop, OnNetwork, Place, Schedule, Step};
use crate::TestPair;
use crate::proxy::{self, Direction, Flow, HttpProxy, TcpProxy, When};

/// Lets every fault of the schedule begin and end. Fails when it cannot, which is no fault of the pair's.
pub(super) async fn inflict(pair: &TestPair, schedule: &Schedule, start: Instant) -> anyhow::Result<()> {
    let mut places: BTreeMap<Place, Vec<&Step>> = BTreeMap::new();
    for step in &schedule.steps {
        places.entry(step.fault.place()).or_default().push(step);
    }
    try_join_all(places.into_values().map(|steps| one_place(pair, steps, start))).await?;
    Ok(())
}

async fn one_place(pair: &TestPair, steps: Vec<&Step>, start: Instant) -> anyhow::Result<()> {
    for step in steps {
        sleep_until(start + step.at()).await;
        let once_more = begin(pair, &step.fault).await;
        sleep_until(start + step.until()).await;
        end(pair, &step.fault, once_more).await?;
    }
    Ok(())
}

/// Gives the call that is to be carried once more when the fault ends, if it is one of those.
async fn begin(pair: &TestPair, fault: &Fault) -> Option<usize> {
    match fault {
        Fault::Kill { service, replica } => pair.kill(*service, *replica).await,
        Fault::Leave { service, replica } => {
            pair.stop(*service, *replica).await;
        }
        Fault::Pause { service, replica } => pair.pause(*service, *replica).await,
        Fault::KillPostgres => pair.postgres().kill().await,
        Fault::Hop { hop, calls, spoils } => return spoil_calls(&pair.hops()[*hop], calls, *spoils).await,
        Fault::Network { service, spoils } => spoil_bytes(pair.network(*service), *spoils).await,
    }
    None
}

async fn end(pair: &TestPair, fault: &Fault, once_more: Option<usize>) -> anyhow::Result<()> {
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
            if let Some(id) = once_more {
                // That nobody is there to take it is one of the things that may happen to it.
                let _answer = hop.resend(id).await;
            }
        }
        Fault::Network { service, .. } => pair.network(*service).heal().await,
    }
    Ok(())
}

async fn spoil_calls(hop: &HttpProxy, calls: &str, spoils: OnHop) -> Option<usize> {
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
            let meant = exchanges.iter().rev().filter(|one| when.is_for(&one.request.subject()));
            return meant.map(|one| one.id).nth(back);
        }
    };
    hop.script(when, fault);
    None
}

async fn spoil_bytes(network: &TcpProxy, spoils: OnNetwork) {
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
