//! Invariant 11: no leak of open transactions, tasks, sockets or memory.

use crate::report::{Rule, Tally, Violation};
use crate::{Observed, Side};

/// The longest time that a session may be idle in a transaction: one second, the contract's bound.
const IDLE_MS: u64 = 1_000;

pub(crate) fn finish(observed: &Observed, tally: &mut Tally) {
    for session in &observed.sessions {
        tally.check(Rule::NoIdleTransaction, session.idle_in_transaction_ms <= IDLE_MS, || {
            let idle = session.idle_in_transaction_ms;
            wrong(session.service, format!("session {} was idle in a transaction for {idle} ms", session.pid))
        });
    }
    for gauge in &observed.gauges {
        if !observed.at_rest {
            tally.defer(Rule::BackToBaseline);
            continue;
        }
        tally.check(Rule::BackToBaseline, gauge.now <= gauge.baseline + gauge.slack, || {
            let (now, baseline, slack) = (gauge.now, gauge.baseline, gauge.slack);
            wrong(gauge.service, format!("{} is {now}, it was {baseline} (slack {slack})", gauge.name))
        });
    }
}

fn wrong(service: Side, what: String) -> Violation {
    Violation { service: Some(service), ..Violation::new(what) }
}
