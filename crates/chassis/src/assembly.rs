//! Assembly of a service with a database and an API behind tokens: lifecycle, middleware, operations.
//!
//! A service makes an [`Assembly`], makes its use cases with the database and the lifecycle in it, and finishes it with its
//! [`Parts`].

use std::sync::Arc;

use axum::Router;
use evidence::{Objectives, Recorder, Writing};
use journal::Database;
use mainstay::Registry;
use mainstay::client::ClientConfig;
#[cfg(feature = "faults")]
use mainstay::fault::{Faults, ServerFaultLayer};
use mainstay::server::ServerConfig;
use sqlx::migrate::Migrator;
#[cfg(feature = "faults")]
use tower::Layer;
use utoipa::openapi::OpenApi;

use crate::config::CommonConfig;
use crate::ops::{self, ChangeLog, Condition};
use crate::server::{Lifecycle, Serves};
use crate::{Application, StartError, events, journal_feed, openapi, retention, routes, schema};

/// A service without routes.
#[derive(Debug)]
pub struct Assembly {
    /// The lifecycle of the process.
    pub lifecycle: Lifecycle,
    /// The connection pool of the requests. It connects when it is first used.
    pub database: Database,
    /// The registry of everything that may refuse a request or a call. Operators read it.
    pub registry: Registry,
    /// Settings of the server stack.
    pub server: ServerConfig,
    /// The recorder of events. It is off until [`Assembly::record_events`].
    pub events: Recorder,
    writing: Option<Writing>,
    service: &'static str,
    common: CommonConfig,
    #[cfg(feature = "faults")]
    faults: Faults,
}

/// The parts of a service that the chassis does not know.
#[expect(missing_debug_implementations, reason = "OpenApi has none")]
pub struct Parts<C> {
    /// Routes of the API. All of them need a token.
    pub api: Router,
    /// Description of the API.
    pub openapi: OpenApi,
    /// The service's own routes under `/admin/v1`, without that prefix. All of them need an operator's token.
    pub admin: Router,
    /// Readiness conditions, beside those of the database.
    pub conditions: C,
    /// Migrations to the schema that this release needs.
    pub migrator: Migrator,
}

impl Assembly {
    /// Begins the assembly of `service`.
    pub fn new(service: &'static str, common: CommonConfig) -> Self {
        Self {
            lifecycle: Lifecycle::new(common.process.shutdown_grace),
            database: common.database(),
            registry: Registry::default(),
            server: common.server(),
            events: Recorder::off(),
            writing: None,
            service,
            common,
            #[cfg(feature = "faults")]
            faults: Faults::new(mainstay::random::Random::from_entropy()),
        }
    }

    /// Records one event for each request, if the settings name a folder. `config_hash` stands in each event, and
    /// `objectives` decide the verdict on each request.
    pub fn record_events(&mut self, config_hash: &str, objectives: Objectives) -> Result<(), StartError> {
        (self.events, self.writing) =
            self.common.events.start(self.service, &self.common.process.environment, config_hash)?;
        self.server.observer = events::observer(&self.events, objectives);
        Ok(())
    }

    /// Settings of the client stack for `peer`.
    pub fn client(&self, peer: &'static str) -> ClientConfig {
        let config = ClientConfig::new(peer);
        #[cfg(feature = "faults")]
        let faults = self.common.faults_enabled.then(|| (self.faults.clone(), format!("{peer}-client")));
        #[cfg(feature = "faults")]
        let config = config.faults(faults);
        config
    }

    /// Puts the middleware around the routes, adds the operations listener and opens the ports.
    pub async fn finish<C>(self, parts: Parts<C>) -> Result<Application<impl Serves + use<C>>, StartError>
    where
        C: Fn() -> Vec<Condition> + Send + Sync + 'static,
    {
        let Self { lifecycle, database, registry, common, .. } = self;
        let Parts { api, openapi, admin, conditions, migrator } = parts;

        let observer = self.server.observer.clone();
        let stack = lifecycle.server_stack(self.server)?;
        registry.server("public", &stack);
        openapi::start_metrics(&openapi, &stack);
        let public = routes::finish(openapi::routes(&openapi), &stack).merge(routes::guarded(
            api,
            &common.tokens,
            &stack,
        ));
        #[cfg(feature = "faults")]
        let public = ServerFaultLayer::new(&self.faults, &format!("{}-server", self.service)).layer(public);

        let changes = ChangeLog::none();
        let admin = admin
            .merge(journal_feed::routes(self.service, common.feed_database()))
            .merge(events::routes(self.events))
            .merge(ops::limit_routes(registry.clone()))
            .merge(ops::breaker_routes(registry, changes.clone()));
        #[cfg(feature = "faults")]
        let admin =
            if common.faults_enabled { admin.merge(ops::fault_routes(self.faults, changes)) } else { admin };
        let checked = Arc::new((common.readiness_database(), database.clone(), migrator, conditions));
        let readiness = move || {
            let checked = Arc::clone(&checked);
            async move {
                let (own, served, migrator, conditions) = &*checked;
                let mut all = schema::conditions(own, served, migrator).await;
                all.extend(conditions());
                all
            }
        };
        let operations = ops::router(&lifecycle, readiness, ops::admin(admin, &common.tokens, observer));

        let pool = database.clone();
        lifecycle.on_start(move |tasks| retention::spawn(tasks, pool));
        let writing = self.writing;
        lifecycle.on_end(move || {
            database.close();
            drop(writing);
        });
        Application::open(&common.process, lifecycle, public, operations).await
    }
}
