//! Assembly of a service with an API behind tokens and a database of its own: ports, lifecycle, middleware, operations.
//!
//! A service opens an [`Assembly`], makes its use cases with what that holds, and finishes it with its [`Parts`].

use std::sync::Arc;

use axum::Router;
use journal::Database;
use mainstay::Registry;
use mainstay::client::ClientConfig;
#[cfg(feature = "faults")]
use mainstay::fault::{Faults, ServerFaultLayer};
use mainstay::server::ServerConfig;
#[cfg(feature = "faults")]
use tower::Layer;

use crate::config::CommonConfig;
use crate::ops::{self, ChangeLog, Condition, Operations};
use crate::program::Program;
use crate::server::{Lifecycle, Limits, Listener, Served, Serves, bind};
use crate::{Application, StartError, journal_feed, openapi, retention, routes, schema};

/// A service with open ports and without routes.
#[derive(Debug)]
pub struct Assembly {
    /// The lifecycle of the process.
    pub lifecycle: Lifecycle,
    /// The connection pool of the requests.
    pub database: Database,
    /// The registry of everything that may refuse a request or a call. Operators read it.
    pub registry: Registry,
    common: CommonConfig,
    #[cfg(feature = "faults")]
    faults: Faults,
    public: Listener,
    operations: Listener,
}

/// The parts that differ between services.
#[derive(Debug)]
pub struct Parts<C> {
    /// Settings of the server stack: [`Assembly::server`], changed where the service needs it.
    pub server: ServerConfig,
    /// Routes of the API. All of them need a token.
    pub api: Router,
    /// The service's own routes under `/admin/v1`, without that prefix. All of them need an operator's token.
    pub admin: Router,
    /// Readiness conditions of the service, beside those of its database.
    pub conditions: C,
}

impl Assembly {
    /// Opens the ports. The pool connects when it is first used.
    pub async fn open(common: CommonConfig) -> Result<Self, StartError> {
        let public = bind("LISTEN_ADDR", common.listen_addr).await?;
        let operations = bind("OPS_LISTEN_ADDR", common.ops_listen_addr).await?;
        Ok(Self {
            lifecycle: Lifecycle::new(common.shutdown_grace),
            database: common.database(),
            registry: Registry::default(),
            #[cfg(feature = "faults")]
            faults: Faults::new(mainstay::random::Random::from_entropy()),
            common,
            public,
            operations,
        })
    }

    /// Settings of the client stack for `peer`.
    pub fn client(&self, peer: &'static str) -> ClientConfig {
        let config = ClientConfig::new(peer);
        #[cfg(feature = "faults")]
        let faults = self.common.faults_enabled.then(|| (self.faults.clone(), format!("{peer}-client")));
        #[cfg(feature = "faults")]
        let config = ClientConfig { faults, ..config };
        config
    }

    /// Settings of the server stack.
    pub fn server(&self) -> ServerConfig {
        self.common.server()
    }

    /// Puts the middleware around the routes and adds the operations listener.
    pub fn finish<P, C>(self, parts: Parts<C>) -> Result<Application<impl Serves + use<P, C>>, StartError>
    where
        P: Program,
        C: Fn() -> Vec<Condition> + Send + Sync + 'static,
    {
        let Self { lifecycle, database, registry, common, .. } = self;
        let Parts { server, api, admin, conditions } = parts;

        let server = mainstay::server::stack(server)?;
        registry.server("public", &server);
        let drain = server.drain().clone();
        lifecycle.on_stop(move || drain.start());
        let documents = openapi::routes(&P::openapi());
        let service = routes::finish(documents, api, &common.tokens, &server);
        #[cfg(feature = "faults")]
        let service = ServerFaultLayer::new(&self.faults, &format!("{}-server", P::NAME)).layer(service);
        let limits = Limits { connections: common.max_connections, ..Limits::default() };
        let public = Served { listener: self.public, service, limits };

        let changes = ChangeLog::none();
        let admin = admin
            .merge(journal_feed::routes(P::NAME, common.feed_database()))
            .merge(ops::limit_routes(registry.clone()))
            .merge(ops::breaker_routes(registry, changes.clone()));
        #[cfg(feature = "faults")]
        let admin =
            if common.faults_enabled { admin.merge(ops::fault_routes(self.faults, changes)) } else { admin };
        let (own, served) = (common.readiness_database(), database.clone());
        let conditions = Arc::new(conditions);
        let readiness = move || {
            let (own, served, conditions) = (own.clone(), served.clone(), conditions.clone());
            async move {
                let mut all = schema::conditions(&own, &served, &P::migrator()).await;
                all.extend(conditions());
                all
            }
        };
        let service =
            ops::router(Operations { lifecycle: lifecycle.clone(), tokens: common.tokens, readiness, admin });
        let operations = Served { listener: self.operations, service, limits: Limits::operations() };

        let pool = database.clone();
        lifecycle.on_start(move |tasks| retention::spawn(tasks, pool));
        lifecycle.on_end(move || database.close());
        Ok(Application::new(lifecycle, public, operations))
    }
}
