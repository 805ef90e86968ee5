//! A way to PostgreSQL, which no port is published of: every connection goes on through the standard streams of a
//! `docker exec` in its container. That works wherever docker does, on a remote daemon too.

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

/// Copies between its own streams and the server's port.
const INSIDE: &str = "exec 3<>/dev/tcp/127.0.0.1/5432; cat <&3 & exec cat >&3";

/// A listener on loopback that leads into the container. It ends when it is dropped.
#[derive(Debug)]
pub(crate) struct Tunnel {
    address: SocketAddr,
    _accepting: JoinSet<()>,
}

impl Tunnel {
    /// Opens it.
    pub(crate) async fn open(stack: &Stack) -> anyhow::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let (address, container) = (listener.local_addr()?, stack.container("postgres").await);
        let mut accepting = JoinSet::new();
        accepting.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                connections.spawn(carry(client, container.clone()));
            }
        });
        Ok(Self { address, _accepting: accepting })
    }

    /// A session at a service's database, as the server's administrator: the images trust those who are inside.
    pub(crate) async fn connect(&self, service: Service) -> anyhow::Result<PgConnection> {
        let options = PgConnectOptions::new_without_pgpass()
            .host("127.0.0.1")
            .port(self.address.port())
            .username("postgres")
            .database(&format!("mainstay_{service}"))
            .ssl_mode(PgSslMode::Disable);
        PgConnection::connect_with(&options).await.with_context(|| format!("the {service} database"))
    }
}

/// Carries bytes both ways until the client has ended its session. What goes wrong here the client notices.
async fn carry(mut client: TcpStream, container: String) {
    let child = Command::new("docker")
        .args(["exec", "--interactive", &container, "bash", "-c", INSIDE])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn();
    let mut child = child.expect("docker was run before");
    let (mut to, mut from) = (child.stdin.take().expect("piped"), child.stdout.take().expect("piped"));
    let (mut read, mut write) = client.split();
    tokio::select! {
        _ = copy(&mut read, &mut to) => {}
        _ = copy(&mut from, &mut write) => {}
    }
}
