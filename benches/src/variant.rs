//! The variants: what to start for each, and what their orders look like.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, ensure};
use local::{Postgres, Service, ports, provision};
use sha2::{Digest, Sha256};
use sqlx::{AssertSqlSafe, Connection, PgConnection};

use crate::load::{Load, SKUS};

const CLIENT_TOKEN: &str = "bench-client-token";
const PEER_TOKEN: &str = "bench-peer-token";

/// A variant with its processes running; they end when it is dropped.
pub(crate) struct Variant {
    pub(crate) name: &'static str,
    pub(crate) address: SocketAddr,
    path: &'static str,
    body: fn(u64, u64) -> String,
    processes: Vec<Child>,
}

impl Variant {
    pub(crate) fn load(&self, connections: u64, time: Duration) -> Load {
        let token = CLIENT_TOKEN.to_owned();
        Load { address: self.address, path: self.path, token, body: self.body, connections, time }
    }

    pub(crate) fn pids(&self) -> impl Iterator<Item = u32> {
        self.processes.iter().map(Child::id)
    }
}

impl Drop for Variant {
    fn drop(&mut self) {
        for process in &mut self.processes {
            // Gone already is as good as killed.
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

/// The pair as it ships, or the control, over databases of its own.
pub(crate) async fn ours(
    postgres: &Postgres,
    name: &'static str,
    programs: [&str; 2],
    home: &Path,
) -> anyhow::Result<Variant> {
    let own = std::env::current_exe().context("the path of this program")?;
    let admin = postgres.connect_options("postgres");
    let mut urls = Vec::new();
    for service in Service::BOTH {
        let passwords = provision::roles(&admin, service).await?;
        let made = provision::database(&admin, service, &format!("{name}_{service}"), &passwords).await?;
        let program = match service {
            Service::Order => "mainstay-order",
            Service::Inventory => "mainstay-inventory",
        };
        let mut migrate = Command::new(&own);
        migrate.args([program, "migrate"]).env("MIGRATION_DATABASE_URL", &made.owner).stdout(Stdio::null());
        let migrated = migrate.status().context("migrating")?;
        ensure!(migrated.success(), "the migration of {name} failed");
        // As a superuser on either role's behalf: passwords of the roles are drawn anew for the next variant.
        urls.push(postgres.url(&format!("{name}_{service}")));
    }
    let mut connection = PgConnection::connect(&urls[1]).await?;
    let stock = format!(
        "INSERT INTO items (sku, name, on_hand, version, head_hash, hlc, entry_id)
         SELECT 'sku-' || lpad(n::text, 5, '0'), '', 1000000000000, 1, decode(repeat('00', 32), 'hex'),
             '0000000000000000', gen_random_uuid() FROM generate_series(1, {SKUS}) n"
    );
    sqlx::raw_sql(AssertSqlSafe(stock)).execute(&mut connection).await.context("stock")?;
    sqlx::raw_sql("ANALYZE").execute(&mut connection).await?;
    connection.close().await?;

    let mut text = String::new();
    for (role, who, token) in [("client", "control", CLIENT_TOKEN), ("service", "order", PEER_TOKEN)] {
        writeln!(text, "{role} {who} {:x}", bytes::Bytes::copy_from_slice(&Sha256::digest(token)))?;
    }
    let tokens = home.join(format!("{name}.tokens"));
    std::fs::write(&tokens, text)?;
    let peer = home.join(format!("{name}.peer"));
    std::fs::write(&peer, PEER_TOKEN)?;

    let [order_port, inventory_port] = [ports::free()?, ports::free()?];
    let mut processes = Vec::new();
    for (program, port, url) in [(programs[0], order_port, &urls[0]), (programs[1], inventory_port, &urls[1])]
    {
        let log = std::fs::File::create(home.join(format!("{program}.log")))?;
        let settings: [(&str, OsString); 9] = [
            ("DATABASE_URL", url.into()),
            ("LISTEN_ADDR", format!("127.0.0.1:{port}").into()),
            ("OPS_LISTEN_ADDR", format!("127.0.0.1:{}", ports::free()?).into()),
            ("AUTH_TOKENS_FILE", tokens.clone().into()),
            ("INVENTORY_TOKEN_FILE", peer.clone().into()),
            ("INVENTORY_URL", format!("http://127.0.0.1:{inventory_port}").into()),
            ("CLIENT_TOKEN", CLIENT_TOKEN.into()),
            ("PEER_TOKEN", PEER_TOKEN.into()),
            ("RUST_LOG", "info".into()),
        ];
        let child =
            Command::new(&own).arg(program).envs(settings).stdout(log.try_clone()?).stderr(log).spawn();
        processes.push(child.with_context(|| format!("starting {program}"))?);
    }
    let address = SocketAddr::from(([127, 0, 0, 1], order_port));
    let variant = Variant { name, address, path: "/v1/orders", body: order, processes };
    listening(SocketAddr::from(([127, 0, 0, 1], inventory_port))).await?;
    listening(address).await?;
    Ok(variant)
}

/// Somebody else's pair: `naive` and `sql/schema.sql` in a folder.
pub(crate) async fn plain(postgres: &Postgres, folder: &Path, program: &Path) -> anyhow::Result<Variant> {
    let schema = folder.join("sql/schema.sql");
    let schema = std::fs::read_to_string(&schema).with_context(|| format!("reading {}", schema.display()))?;
    let mut admin = PgConnection::connect(&postgres.url("postgres")).await?;
    for database in ["plain_orders", "plain_inventory"] {
        sqlx::raw_sql(AssertSqlSafe(format!("CREATE DATABASE {database}"))).execute(&mut admin).await?;
        let mut connection = PgConnection::connect(&postgres.url(database)).await?;
        sqlx::raw_sql(AssertSqlSafe(schema.clone()))
            .execute(&mut connection)
            .await
            .context("the plain schema")?;
        connection.close().await?;
    }
    let [order_port, inventory_port] = [ports::free()?, ports::free()?];
    let start = |args: &[String]| Command::new(program).args(args).stderr(Stdio::null()).spawn();
    let inventory =
        start(&["inventory".into(), inventory_port.to_string(), postgres.url("plain_inventory")])?;
    let reservations = format!("http://127.0.0.1:{inventory_port}/reservations");
    let order = start(&["order".into(), order_port.to_string(), postgres.url("plain_orders"), reservations])?;
    let address = SocketAddr::from(([127, 0, 0, 1], order_port));
    let variant = Variant {
        name: "plain",
        address,
        path: "/orders",
        body: plain_order,
        processes: vec![order, inventory],
    };
    listening(SocketAddr::from(([127, 0, 0, 1], inventory_port))).await?;
    listening(address).await?;
    Ok(variant)
}

/// The `naive` program of a folder, built there if need be.
pub(crate) fn build(folder: &Path, target: &Path) -> anyhow::Result<PathBuf> {
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
