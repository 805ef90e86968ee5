//! Tunnel to PostgreSQL, whose port is not published.
//!
//! Every connection goes through the standard streams of a `docker exec` in the container. That works with a remote
//! docker daemon too.

use std::net::{Ipv4Addr, SocketAddr};
use std::process::Stdio;

use anyhow::Context as _;
use local::Service;
use sqlx::postgres::{PgConnectOptions, PgSslMode};
use sqlx::{Connection as _, PgConnection};
use tokio::io::copy;
use tokio::net::{TcpListener, TcpStream};
use tokio::process::Command;
use tokio::task::JoinSet;

use crate::stack::Stack;

/// Script in the container that copies bytes between its standard streams and the server's port.
const INSIDE: &str = "exec 3<>/dev/tcp/127.0.0.1/5432; cat <&3 & exec cat >&3";

/// A listener on loopback that forwards connections into the container. It closes when it is dropped.
#[derive(Debug)]
pub(crate) struct Tunnel {
    address: SocketAddr,
    _accepting: JoinSet<()>,
}

impl Tunnel {
    /// Opens a tunnel to the stack's PostgreSQL.
    pub(crate) async fn open(stack: &Stack) -> anyhow::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let (address, container) = (listener.local_addr()?, stack.container("postgres").await);
        let mut accepting = JoinSet::new();
        accepting.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                connections.spawn(forward(client, container.clone()));
            }
        });
        Ok(Self { address, _accepting: accepting })
    }

    /// A superuser session of a service's database. The image needs no password for connections from inside the
    /// container.
    pub(crate) async fn connect(&self, service: Service) -> anyhow::Result<PgConnection> {
        let options = PgConnectOptions::new_without_pgpass()
            .host("127.0.0.1")
            .port(self.address.port())
            .username("postgres")
            .database(&format!("mainstay_{service}"))
            .ssl_mode(PgSslMode::Disable);
        PgConnection::connect_with(&options)
            .await
            .with_context(|| format!("connecting to the {service} database"))
    }
}

/// Copies bytes in both directions until one side closes. The client sees every failure as a closed connection.
async fn forward(mut client: TcpStream, container: String) {
    let child = Command::new("docker")
        .args(["exec", "--interactive", &container, "bash", "-c", INSIDE])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn();
    let mut child = child.expect("the docker command exists, because it started the stack");
    let to = child.stdin.take().expect("standard input is piped");
    let from = child.stdout.take().expect("standard output is piped");
    let (mut to, mut from) = (to, from);
    let (mut read, mut write) = client.split();
    tokio::select! {
        _ = copy(&mut read, &mut to) => {}
        _ = copy(&mut from, &mut write) => {}
    }
}
