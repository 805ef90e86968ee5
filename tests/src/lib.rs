//! What the whole-pair tests share: what the services promise, and how to start them.

use checker::Contract;
use journal::State;
use journal::rule::ReplayError;
use local::pair::Programs;
use order_service::domain::Status;

/// The promises of both services, from their own code.
pub fn contract() -> Contract<'static> {
    let orders = order_service::domain::TRANSITIONS.into_iter().map(|(from, to)| (Status::KIND, from, to));
    let stock = inventory_service::domain::TRANSITIONS;
    Contract::new(orders.chain(stock), |rule, inputs| {
        match order_service::domain::rules::replay(rule, inputs) {
            Err(ReplayError::UnknownRule(_)) => inventory_service::domain::replay(rule, inputs),
            decided => decided,
        }
    })
}

/// The program `pair` as either service.
pub fn programs(pair: &str) -> Programs {
    Programs::mainstay(pair.as_ref())
}
