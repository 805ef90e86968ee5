//! Invariant 10: only one layer retries a request, a bounded number of times, within the hop's budget.

use std::collections::BTreeMap;

use crate::report::{Rule, Tally, Violation};
use crate::{Contract, Observed};

pub(crate) fn finish(contract: &Contract<'_>, observed: &Observed, tally: &mut Tally) {
    let budget = contract.budget;
    let mut hops: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
    for call in &observed.calls {
        tally.check(Rule::AttemptsPerCall, call.attempts <= budget.per_call, || {
            Violation::new(format!(
                "{}: {} attempts of one call, {} allowed (correlation id {})",
                call.hop, call.attempts, budget.per_call, call.correlation_id
            ))
        });
        let (calls, retries) = hops.entry(&call.hop).or_default();
        *calls += 1;
        *retries += u64::from(call.attempts.saturating_sub(1));
    }
    for (hop, (calls, retries)) in hops {
        // Counts of calls are far below 2^52, where f64 is exact.
        #[allow(clippy::cast_precision_loss)]
        let (of_calls, made) = (calls as f64 * budget.ratio, retries as f64);
        // The floor allows the first retry at once, and each further retry one full interval later.
        let first = if budget.floor_per_second > 0.0 { 1.0 } else { 0.0 };
        let allowed = of_calls + budget.floor_per_second * observed.watched_secs + first;
        tally.check(Rule::AttemptsPerHop, made <= allowed, || {
            Violation::new(format!(
                "{hop}: {retries} retries of {calls} calls in {} s, {allowed} allowed",
                observed.watched_secs
            ))
        });
    }
}
