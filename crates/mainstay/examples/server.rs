//! An axum service behind the server stack. `cargo run -p mainstay --example server [ADDRESS]`, then:
//!
//! ```text
//! curl -i localhost:3000/slow/50                            # 200, and one canonical line
//! curl -i localhost:3000/slow/500 -H 'x-deadline-ms: 100'   # 504, outcome unknown
//! curl -i localhost:3000/panic                              # 500, and the permit is free again
//! seq 40 | xargs -P40 -I{} curl -so/dev/null -w '%{http_code}\n' localhost:3000/slow/900   # some 503
//! ```

use std::time::Duration;

use axum::extract::{MatchedPath, Path};
use axum::routing::get;
use axum::{Extension, Json, Router};
use mainstay::RequestContext;
use mainstay::limit::Bounds;
use mainstay::server::{LimitConfig, LogFields, ServerConfig, stack};

async fn slow(
    Path(ms): Path<u64>,
    Extension(context): Extension<RequestContext>,
    Extension(log): Extension<LogFields>,
) -> String {
    log.set("asked_ms", ms);
    tokio::time::sleep(Duration::from_millis(ms)).await;
    format!("{} had {:?} left\n", context.correlation_id, context.deadline.remaining())
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    tracing_subscriber::fmt().json().init();
    let config = ServerConfig::default()
        .limit(LimitConfig::Gradient(Bounds::default()))
        .route(|head| head.extensions.get::<MatchedPath>().map(|path| path.as_str().to_owned().into()));
    let stack = stack(config)?;
    let (drain, watched) = (stack.drain(), stack.clone());
    let app = Router::new()
        .route("/slow/{ms}", get(slow))
        .route("/panic", get(|| async { panic!("on request") as () }))
        .layer(stack)
        // Outside the stack, so that it answers even when the stack refuses every request.
        .route("/state", get(move || async move { Json(watched.snapshot()) }));
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:3000".to_owned());
    let listener = tokio::net::TcpListener::bind(address).await?;
    println!("listening on {}", listener.local_addr()?);
    axum::serve(listener, app)
        .with_graceful_shutdown(async move {
            drop(tokio::signal::ctrl_c().await);
            drain.start();
            drop(tokio::time::timeout(Duration::from_secs(10), drain.drained()).await);
        })
        .await?;
    Ok(())
}
