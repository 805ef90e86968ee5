//! Assembly of the order service, for the program and for tests.

use std::ffi::OsString;
use std::process::ExitCode;

use chassis::config::{ConfigProblems, Defaults, REVISION};
use chassis::ops::breaker_conditions;
use chassis::program::{self, Program};
use chassis::server::Serves;
use chassis::{Application, Assembly, Parts, StartError};
use evidence::objective::{Good, Objective, Objectives};
use journal::Journal;
use mainstay::client::{HyperTransport, TransportConfig};
use mainstay::context::Priority;
use sqlx::migrate::Migrator;
use utoipa::OpenApi as _;
use utoipa::openapi::OpenApi;

use crate::app::App;
use crate::clients::Inventory;
use crate::config::{Config, DEFAULTS, OrderArgs};
use crate::http::{Api, Description};
use crate::{http, reconcile, store};

/// Objectives of the commands, for the verdict on each request.
const OBJECTIVES: Objectives = Objectives(&[
    Objective { name: "order-availability", method: Some("POST"), good: Good::Answered },
    Objective { name: "order-latency", method: Some("POST"), good: Good::WithinMs(300.0) },
]);

/// The order service as a program.
#[derive(Debug)]
pub struct Service;

impl Program for Service {
    const NAME: &'static str = "order";
    const COMMAND: &'static str = "mainstay-order";
    const ABOUT: &'static str =
        "Accepts orders, has inventory hold their stock, and finishes whatever is interrupted";
    const DEFAULTS: Defaults = DEFAULTS;
    type Args = OrderArgs;
    type Config = Config;

    fn load(args: &OrderArgs) -> Result<Config, ConfigProblems> {
        Config::load(args)
    }

    fn migrator() -> Option<Migrator> {
        Some(migrator())
    }

    fn openapi() -> Option<OpenApi> {
        Some(Description::openapi())
    }

    async fn build(config: Config) -> Result<Application<impl Serves>, StartError> {
        let Config { common, inventory_url, inventory_token, hold_seconds, hash } = config;
        let mut assembly = Assembly::new(Self::NAME, common);
        assembly.record_events(&hash, OBJECTIVES)?;
        // Critical priority is for calls that finish interrupted orders. Clients make no such calls.
        assembly.server = assembly.server.priority_ceiling(|_| Priority::Default);
        let transport = HyperTransport::new(&TransportConfig::default());
        let stack = mainstay::client::stack(assembly.client("inventory"), transport)?;
        assembly.registry.client(&stack);
        let breakers = stack.breakers().clone();
        let inventory = Inventory::new(stack, &inventory_url, inventory_token.expose())
            .map_err(|error| StartError::setting("INVENTORY_TOKEN_FILE", &error))?;
        let journal = Journal::new(Self::NAME, REVISION, &hash);
        let app = App::new(assembly.database.clone(), journal, inventory, breakers, hold_seconds);

        let (swept, events) = (app.clone(), assembly.events.clone());
        assembly.lifecycle.on_start(move |tasks| reconcile::run(&swept, tasks, &events));
        let tasks = assembly.lifecycle.tasks().clone();
        let parts = Parts {
            api: http::router(Api { app: app.clone(), tasks: tasks.clone() }),
            openapi: Description::openapi(),
            admin: reconcile::admin::routes(app.clone(), tasks),
            migrator: migrator(),
            conditions: move || {
                breaker_conditions("inventory", &app.breakers).chain(app.conditions()).collect()
            },
        };
        assembly.finish(parts).await
    }
}

/// Runs the program with the command line `args`; the first is the program's name.
pub fn run(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    program::run::<Service>(args)
}

/// The migrations to the schema that this release needs.
pub fn migrator() -> Migrator {
    journal::migrations::migrator(&store::MIGRATIONS)
}
