//! A service with open ports, and the reasons why one cannot start.

use std::fmt::Display;
use std::net::SocketAddr;
use std::process::ExitCode;

use axum::Router;

use crate::config::ProcessConfig;
use crate::server::{BindError, Lifecycle, Limits, Served, Serves, Signals, bind};

/// A service whose ports are open and which does not serve yet.
#[derive(Debug)]
pub struct Application<S = Router> {
    /// The lifecycle of the process, through which it is stopped.
    pub lifecycle: Lifecycle,
    public: Served<S>,
    operations: Served<Router>,
}

impl<S: Serves> Application<S> {
    /// Opens the two ports. `public` serves the API, `operations` the operations listener (see [`ops`](crate::ops)).
    pub async fn open(
        config: &ProcessConfig,
        lifecycle: Lifecycle,
        public: S,
        operations: Router,
    ) -> Result<Self, StartError> {
        let limits = Limits { connections: config.max_connections, ..Limits::default() };
        let listener = bind("LISTEN_ADDR", config.listen_addr).await?;
        let public = Served { listener, service: public, limits };
        let listener = bind("OPS_LISTEN_ADDR", config.ops_listen_addr).await?;
        let operations = Served { listener, service: operations, limits: Limits::operations() };
        Ok(Self { lifecycle, public, operations })
    }

    /// Address of the public API.
    pub fn address(&self) -> SocketAddr {
        self.public.listener.address()
    }

    /// Address of the operations listener.
    pub fn ops_address(&self) -> SocketAddr {
        self.operations.listener.address()
    }

    /// Serves until a signal or the lifecycle stops it.
    pub async fn run(self, signals: Signals) -> ExitCode {
        self.lifecycle.run(self.public, self.operations, signals).await.into()
    }
}

/// Reason why a service could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A listener's address cannot be bound.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The middleware refused its settings.
    #[error("the middleware: {0}")]
    Middleware(#[from] mainstay::ConfigError),
    /// A setting is well-formed and cannot be used.
    #[error("{variable}: {detail}")]
    Setting {
        /// Environment variable of the setting.
        variable: &'static str,
        /// Fault of the value, without the value.
        detail: String,
    },
}

impl StartError {
    /// The setting `variable` cannot be used. `detail` must not quote a secret.
    pub fn setting(variable: &'static str, detail: &dyn Display) -> Self {
        Self::Setting { variable, detail: detail.to_string() }
    }
}
