//! Metric names of the client side. Runbooks, alerts and dashboards quote them, so they change only together with
//! those.
//!
//! Every metric has the label `peer`, the dependency's name.

/// Whole calls, by `outcome`.
pub const REQUESTS: &str = "mainstay_client_requests_total";
/// Whole calls that repeat work that has failed before ([`RepeatedWork`](crate::RepeatedWork)), by `outcome`.
/// `mainstay_client_requests_total` includes them, so the difference is the number of first tries.
pub const REPEATS: &str = "mainstay_client_repeats_total";
/// Seconds from the call to its end, retries and waits included, by `outcome`. Cancelled calls count.
pub const DURATION: &str = "mainstay_client_request_duration_seconds";
/// Attempts that were sent, by `outcome`.
pub const ATTEMPTS: &str = "mainstay_client_attempts_total";
/// Calls in flight.
pub const IN_FLIGHT: &str = "mainstay_client_in_flight";
/// Calls or attempts that were not sent, by `reason`: `breaker-rejected`, `bulkhead-full`, `held-back`,
/// `deadline-too-near`.
pub const REJECTED: &str = "mainstay_client_rejected_total";
/// Attempts and calls cut off at their time limit, by `limit`: `attempt`, `total`, and `joined` for a read that
/// waited for another caller's call.
pub const TIMEOUTS: &str = "mainstay_client_timeouts_total";
/// Reads that joined an identical read in flight.
pub const COALESCED: &str = "mainstay_client_coalesced_total";
/// Reads that got a substitute, by the `outcome` that it replaces.
pub const FALLBACKS: &str = "mainstay_client_fallbacks_total";
/// 1 for the `state` that an `endpoint`'s breaker is in, 0 for the others.
pub const BREAKER_STATE: &str = "mainstay_breaker_state";
/// Changes of an `endpoint`'s breaker, by the new state `to`.
pub const BREAKER_TRANSITIONS: &str = "mainstay_breaker_transitions_total";
/// Attempts after the first.
pub const RETRIES: &str = "mainstay_retries_total";
/// Failed attempts that were the last, by `reason`: `caller-retries`, `not-safe`, `attempts-used`, `deadline-too-near`,
/// `budget-spent`.
pub const RETRY_GIVEN_UP: &str = "mainstay_retry_given_up_total";
/// Retries and hedges that the answers of the last ten seconds still allow, without the floor. Updated once a second
/// while there are answers.
pub const RETRY_BUDGET: &str = "mainstay_retry_budget_tokens";
/// Second calls for slow reads.
pub const HEDGES: &str = "mainstay_hedges_total";
/// Second calls that gave the answer.
pub const HEDGE_WINS: &str = "mainstay_hedge_wins_total";
/// Second calls that the budget did not allow.
pub const HEDGES_DENIED: &str = "mainstay_hedges_denied_total";

/// Registers help texts and units with the installed recorder. `client::stack` calls it.
#[cfg(feature = "client")]
pub(crate) fn describe() {
    use crate::metric::{Unit, describe_counter, describe_gauge, describe_histogram};
    describe_counter!(REQUESTS, "Calls to a dependency by outcome");
    describe_counter!(REPEATS, "Calls that repeat work that has failed before, by outcome");
    describe_histogram!(DURATION, Unit::Seconds, "From the call to its end, retries and waits included");
    describe_counter!(ATTEMPTS, "Attempts that were sent, by outcome");
    describe_gauge!(IN_FLIGHT, "Calls in flight");
    describe_counter!(REJECTED, "Calls or attempts that were not sent, by reason");
    describe_counter!(TIMEOUTS, "Attempts and calls cut off at their time limit");
    describe_counter!(COALESCED, "Reads that joined an identical read in flight");
    describe_counter!(FALLBACKS, "Reads that got a substitute, by the outcome that it replaces");
    describe_gauge!(BREAKER_STATE, "1 for the state that an endpoint's circuit breaker is in");
    describe_counter!(BREAKER_TRANSITIONS, "Changes of an endpoint's circuit breaker, by the new state");
    describe_counter!(RETRIES, "Attempts after the first");
    describe_counter!(RETRY_GIVEN_UP, "Failed attempts that were the last, by reason");
    describe_gauge!(RETRY_BUDGET, "Retries and hedges that recent answers still allow");
    describe_counter!(HEDGES, "Second calls for slow reads");
    describe_counter!(HEDGE_WINS, "Second calls that gave the answer");
    describe_counter!(HEDGES_DENIED, "Second calls that the budget did not allow");
}
