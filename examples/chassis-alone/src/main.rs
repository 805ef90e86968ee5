//! A service with settings, two listeners, health, metrics and a shutdown that waits for the requests in flight.
//!
//! ```sh
//! cargo run                                  # serves on 127.0.0.1:8090 and 127.0.0.1:9090
//! curl http://127.0.0.1:8090/v1/hello/world
//! curl http://127.0.0.1:9090/readyz
//! cargo run -- --help                        # settings and subcommands
//! ```

use std::process::ExitCode;

use axum::Router;
use axum::routing::get;
use chassis::config::{Check, ConfigProblems, Defaults, ProcessArgs, ProcessConfig};
use chassis::ops::{self, Condition};
use chassis::program::{self, Program};
use chassis::server::{Lifecycle, Serves};
use chassis::{ApiError, Application, StartError, ValidPath, routes};

struct Hello;

impl Program for Hello {
    const NAME: &'static str = "hello";
    const COMMAND: &'static str = "hello";
    const ABOUT: &'static str = "Greets by name";
    const DEFAULTS: Defaults = Defaults { listen_addr: "127.0.0.1:8090", ops_listen_addr: "127.0.0.1:9090" };
    type Args = ProcessArgs;
    type Config = ProcessConfig;

    fn load(args: &ProcessArgs) -> Result<ProcessConfig, ConfigProblems> {
        let mut check = Check::new();
        let config = ProcessConfig::read(args, Self::DEFAULTS, &mut check);
        check.finish(|| config)
    }

    async fn build(config: ProcessConfig) -> Result<Application<impl Serves>, StartError> {
        let lifecycle = Lifecycle::new(config.shutdown_grace);
        let stack = lifecycle.server_stack(config.server())?;
        let api = Router::new().route("/v1/hello/{name}", get(hello));
        let readiness = async || vec![Condition::deciding("greetings", true)];
        let operations = ops::router(&lifecycle, readiness, Router::new());
        Application::open(&config, lifecycle, routes::finish(api, &stack), operations).await
    }
}

async fn hello(ValidPath(name): ValidPath<String>) -> Result<String, ApiError> {
    if name == "-" {
        return Err(ApiError::not_found("no greeting without a name"));
    }
    Ok(format!("Hello, {name}!\n"))
}

fn main() -> ExitCode {
    program::run::<Hello>(std::env::args_os())
}
