//! Assembly of the inventory service, for the program and for tests.

use std::ffi::OsString;
use std::process::ExitCode;

use chassis::config::{ConfigProblems, Defaults, REVISION};
use chassis::program::{self, Program};
use chassis::server::Serves;
use chassis::{Application, Assembly, Parts, StartError};
use evidence::objective::{Good, Objective, Objectives};
use journal::Journal;
use sqlx::migrate::Migrator;
use utoipa::OpenApi as _;
use utoipa::openapi::OpenApi;

use crate::app::App;
use crate::config::{Config, DEFAULTS, InventoryArgs};
use crate::http::{Api, Description};
use crate::{http, reconcile, store};

/// Objectives of the commands, for the verdict on each request. A command of the order service has 300 ms, and this is
/// inventory's part.
const OBJECTIVES: Objectives = Objectives(&[
    Objective { name: "inventory-availability", method: Some("POST"), good: Good::Answered },
    Objective { name: "inventory-latency", method: Some("POST"), good: Good::WithinMs(100.0) },
]);

/// The inventory service as a program.
#[derive(Debug)]
pub struct Service;

impl Program for Service {
    const NAME: &'static str = "inventory";
    const COMMAND: &'static str = "mainstay-inventory";
    const ABOUT: &'static str =
        "Keeps the stock of each item, and holds it for orders until they are confirmed, released or expired";
    const DEFAULTS: Defaults = DEFAULTS;
    type Args = InventoryArgs;
    type Config = Config;

    fn load(args: &InventoryArgs) -> Result<Config, ConfigProblems> {
        Config::load(args)
    }

    fn migrator() -> Option<Migrator> {
        Some(migrator())
    }

    fn openapi() -> Option<OpenApi> {
        Some(Description::openapi())
    }

    async fn build(config: Config) -> Result<Application<impl Serves>, StartError> {
        build(config).await
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

/// Assembles the service and opens its ports.
pub async fn build(config: Config) -> Result<Application<impl Serves>, StartError> {
    let mut assembly = Assembly::new(Service::NAME, config.common);
    assembly.record_events(&config.hash, OBJECTIVES)?;
    let journal = Journal::new(Service::NAME, REVISION, &config.hash);
    let app = App::new(assembly.database.clone(), journal, http::replies::render);

    let (swept, events) = (app.clone(), assembly.events.clone());
    assembly.lifecycle.on_start(move |tasks| {
        tasks.supervise("expiry", move |tasks| {
            let (swept, events) = (swept.clone(), events.clone());
            async move { reconcile::run(swept, events, tasks.stopping()).await }
        });
    });
    let admin = reconcile::admin::routes(app.clone());
    let tasks = assembly.lifecycle.tasks().clone();
    let parts = Parts {
        api: http::router(Api { app: app.clone(), tasks }),
        openapi: Description::openapi(),
        admin,
        conditions: move || app.conditions(),
        migrator: migrator(),
    };
    assembly.finish(parts).await
}
