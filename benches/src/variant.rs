//! Variants of the pair: their processes, their databases and the form of their orders.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, ensure};
use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use local::{Postgres, Service, ports, provision};
use sha2::{Digest, Sha256};
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use uuid::Uuid;

use crate::draw::{Draw, SKUS};

const CLIENT_TOKEN: &str = "bench-client-token";
const PEER_TOKEN: &str = "bench-peer-token";

/// A running variant. Its processes are killed when it is dropped.
#[derive(Debug)]
pub struct Variant {
    pub name: &'static str,
    pub target: Target,
    /// Superuser URLs of the order and the inventory database.
    pub databases: [String; 2],
    processes: Vec<Child>,
}

/// Address of a variant and the form of its orders.
#[derive(Debug, Clone)]
pub struct Target {
    pub address: SocketAddr,
    pub path: &'static str,
    /// True if every order contains the same SKU, besides a second one.
    pub is_hot: bool,
    /// Function that gives the body of an order for two SKUs.
    body: fn(u64, u64) -> String,
}

impl Target {
    /// A request for an order of two lines, with its own idempotency key.
    pub fn order(&self, uri: &str, draw: &mut Draw) -> http::Result<Request<Full<Bytes>>> {
        let (one, other) = if self.is_hot { draw.hot_and_other() } else { draw.two_skus() };
        Request::post(uri)
            .header("host", self.address.to_string())
            .header("authorization", format!("Bearer {CLIENT_TOKEN}"))
            .header("content-type", "application/json")
            .header("idempotency-key", Uuid::new_v4().to_string())
            .body(Full::from((self.body)(one, other)))
    }
}

impl Variant {
    pub fn pids(&self) -> impl Iterator<Item = u32> {
        self.processes.iter().map(Child::id)
    }
}

impl Drop for Variant {
    fn drop(&mut self) {
        for process in &mut self.processes {
            // Killing fails only for a process that has already exited.
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

fn order(one: u64, other: u64) -> String {
    format!(
        r#"{{"customer_id":"17850","lines":[{{"sku":"sku-{one:05}","quantity":1}},{{"sku":"sku-{other:05}","quantity":2}}]}}"#
    )
}

fn plain_order(one: u64, other: u64) -> String {
    format!(
        r#"{{"customer_id":17850,"lines":[{{"sku":"sku-{one:05}","qty":1,"price_cents":1999}},{{"sku":"sku-{other:05}","qty":2,"price_cents":999}}]}}"#
    )
}

/// Starts the pair, or the control, on new databases. `further` are further settings of both services.
pub async fn ours(
    postgres: &Postgres,
    name: &'static str,
    programs: [&str; 2],
    home: &Path,
    further: &[(&str, &str)],
) -> anyhow::Result<Variant> {
    let own = std::env::current_exe().context("finding the path of this program")?;
    let admin = postgres.connect_options("postgres");
    let mut urls = [String::new(), String::new()];
    for (service, url) in Service::BOTH.into_iter().zip(&mut urls) {
        let passwords = provision::roles(&admin, service).await?;
        let made = provision::database(&admin, service, &format!("{name}_{service}"), &passwords).await?;
        let program = match service {
            Service::Order => "mainstay-order",
            Service::Inventory => "mainstay-inventory",
        };
        let mut migrate = Command::new(&own);
        migrate.args([program, "migrate"]).env("MIGRATION_DATABASE_URL", &made.owner).stdout(Stdio::null());
        let migrated = migrate.status().context("starting the migration")?;
        ensure!(migrated.success(), "the migration of {name} failed");
        // The services connect as a superuser, because the next variant gets new passwords for the same roles.
        *url = postgres.url(&format!("{name}_{service}"));
    }
    let mut connection = PgConnection::connect(&urls[1]).await?;
    let stock = format!(
        "INSERT INTO items (sku, name, on_hand, version, head_hash, hlc, entry_id)
         SELECT 'sku-' || lpad(n::text, 5, '0'), '', 1000000000000, 1, decode(repeat('00', 32), 'hex'),
             '0000000000000000', gen_random_uuid() FROM generate_series(1, {SKUS}) n"
    );
    sqlx::raw_sql(AssertSqlSafe(stock)).execute(&mut connection).await.context("creating the stock")?;
    sqlx::raw_sql("ANALYZE").execute(&mut connection).await?;
    connection.close().await?;

    let mut text = String::new();
    for (role, principal, token) in [("client", "control", CLIENT_TOKEN), ("service", "order", PEER_TOKEN)] {
        writeln!(text, "{role} {principal} {:x}", Bytes::copy_from_slice(&Sha256::digest(token)))?;
    }
    let tokens = home.join(format!("{name}.tokens"));
    std::fs::write(&tokens, text)?;
    let peer = home.join(format!("{name}.peer"));
    std::fs::write(&peer, PEER_TOKEN)?;

    let [order_port, inventory_port, order_ops, inventory_ops] = ports::distinct()?;
    let mut processes = Vec::new();
    for (program, port, ops, url) in [
        (programs[0], order_port, order_ops, &urls[0]),
        (programs[1], inventory_port, inventory_ops, &urls[1]),
    ] {
        let log = std::fs::File::create(home.join(format!("{program}.log")))?;
        let settings: [(&str, OsString); 9] = [
            ("DATABASE_URL", url.into()),
            ("LISTEN_ADDR", format!("127.0.0.1:{port}").into()),
            ("OPS_LISTEN_ADDR", format!("127.0.0.1:{ops}").into()),
            ("AUTH_TOKENS_FILE", tokens.clone().into()),
            ("INVENTORY_TOKEN_FILE", peer.clone().into()),
            ("INVENTORY_URL", format!("http://127.0.0.1:{inventory_port}").into()),
            ("CLIENT_TOKEN", CLIENT_TOKEN.into()),
            ("PEER_TOKEN", PEER_TOKEN.into()),
            ("RUST_LOG", "info".into()),
        ];
        let mut command = Command::new(&own);
        command.arg(program).envs(settings).envs(further.iter().copied());
        let child = command.stdout(log.try_clone()?).stderr(log).spawn();
        processes.push(child.with_context(|| format!("starting {program}"))?);
    }
    let address = SocketAddr::from(([127, 0, 0, 1], order_port));
    let target = Target { address, path: "/v1/orders", is_hot: false, body: order };
    let variant = Variant { name, target, databases: urls, processes };
    listening(SocketAddr::from(([127, 0, 0, 1], inventory_port))).await?;
    listening(address).await?;
    Ok(variant)
}

/// Starts another implementation of the pair: the program `naive`, with the schema in `sql/schema.sql` of a folder.
pub async fn plain(
    postgres: &Postgres,
    folder: &Path,
    program: &Path,
    further: &[(&str, &str)],
) -> anyhow::Result<Variant> {
    let schema = folder.join("sql/schema.sql");
    let schema = std::fs::read_to_string(&schema).with_context(|| format!("reading {}", schema.display()))?;
    let mut admin = PgConnection::connect(&postgres.url("postgres")).await?;
    let databases = ["plain_orders", "plain_inventory"];
    for database in databases {
        sqlx::raw_sql(AssertSqlSafe(format!("CREATE DATABASE {database}"))).execute(&mut admin).await?;
        let mut connection = PgConnection::connect(&postgres.url(database)).await?;
        sqlx::raw_sql(AssertSqlSafe(schema.clone()))
            .execute(&mut connection)
            .await
            .context("creating the plain schema")?;
        connection.close().await?;
    }
    let [order_port, inventory_port] = ports::distinct()?;
    let start = |args: &[String]| {
        Command::new(program).args(args).envs(further.iter().copied()).stderr(Stdio::null()).spawn()
    };
    let inventory =
        start(&["inventory".into(), inventory_port.to_string(), postgres.url("plain_inventory")])?;
    let reservations = format!("http://127.0.0.1:{inventory_port}/reservations");
    let order = start(&["order".into(), order_port.to_string(), postgres.url("plain_orders"), reservations])?;
    let address = SocketAddr::from(([127, 0, 0, 1], order_port));
    let target = Target { address, path: "/orders", is_hot: false, body: plain_order };
    let databases = databases.map(|name| postgres.url(name));
    let variant = Variant { name: "plain", target, databases, processes: vec![order, inventory] };
    listening(SocketAddr::from(([127, 0, 0, 1], inventory_port))).await?;
    listening(address).await?;
    Ok(variant)
}

/// Builds the `naive` program of a folder into `target`, if it is not built yet, and returns its path.
pub fn build(folder: &Path, target: &Path) -> anyhow::Result<PathBuf> {
    let mut cargo = Command::new("cargo");
    cargo
        .args(["build", "--release", "--quiet", "--bin", "naive"])
        .arg("--manifest-path")
        .arg(folder.join("Cargo.toml"));
    let built = cargo.env("CARGO_TARGET_DIR", target).status().context("running cargo")?;
    ensure!(built.success(), "the plain pair in {} does not build", folder.display());
    Ok(target.join("release/naive"))
}

async fn listening(address: SocketAddr) -> anyhow::Result<()> {
    let end = tokio::time::Instant::now() + Duration::from_secs(20);
    while tokio::net::TcpStream::connect(address).await.is_err() {
        ensure!(tokio::time::Instant::now() < end, "nothing listens on {address} after 20 s");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}
