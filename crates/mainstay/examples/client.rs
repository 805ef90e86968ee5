//! A client of the server example, over hyper-util. Start `--example server`, then run `cargo run -p mainstay
//! --features hyper --example client -- http://127.0.0.1:3000/slow/50 [CALLS]`. Stop the server while the client
//! runs, and start it again, to see the breaker open and close.

use std::time::Duration;

use http::Request;
use http_body_util::Full;
use mainstay::client::{self, ClientConfig, HyperTransport};
use mainstay::{RequestContext, classify};
use tower::ServiceExt as _;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let uri = std::env::args().nth(1).unwrap_or_else(|| "http://127.0.0.1:3000/slow/50".to_owned());
    let calls = std::env::args().nth(2).map_or(Ok(60), |calls| calls.parse::<u32>())?;
    // One stack for each dependency, built once and cloned: clones share budget, breakers, limit and connections.
    let client = client::stack(ClientConfig::new("example"), HyperTransport::default())?;

    for _ in 0..calls {
        // In a service, use the context of the current request: it carries correlation id, deadline and decision
        // trail.
        let context = RequestContext::background(Duration::from_secs(2));
        let mut request = Request::get(&uri).body(Full::default())?;
        request.extensions_mut().insert(context.clone());

        let result = client.clone().oneshot(request).await;
        // The outcome decides the next step; for a write, `Unknown` is not `failed`.
        let outcome = classify::outcome(&result);
        match result {
            Ok(reply) => println!("{outcome}: {} {:?}", reply.status(), reply.body()),
            Err(error) => println!("{outcome}: {error}"),
        }
        for decision in context.trail.snapshot() {
            println!("    {} {}: {}", decision.layer, decision.action, decision.why);
        }
        for breaker in client.breakers().list() {
            println!("    breaker of {} is {}", breaker.name, breaker.state);
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    Ok(())
}
