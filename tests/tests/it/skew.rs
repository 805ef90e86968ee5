//! Tests of hosts with wrong clocks: orders are decided and the history is complete, whatever the services' wall clocks say.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use checker::Side;
use local::{Service, TemporaryDirectory};
use testkit::pair::{PairSetup, TestPair};
use testkit::proxy::{Ending, Fault, When};

use crate::support::{RESOLVED, becomes, command, order, reserved, setup, sound};

const HOUR: i64 = 3_600;
const DAY: i64 = 24 * HOUR;

/// The wall clock of one service's processes, which a test can set wrong.
struct Skew {
    home: TemporaryDirectory,
}

impl Skew {
    /// Compiles the preloaded clock. The build needs a C compiler in any case.
    fn new() -> Self {
        let home = TemporaryDirectory::create_in(&std::env::temp_dir()).unwrap();
        let skew = Self { home };
        skew.step(0);
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("skew/skew.c");
        let compiled = Command::new("cc")
            .args(["-shared", "-fPIC", "-O1", "-o"])
            .args([skew.library(), source])
            .arg("-ldl")
            .output()
            .unwrap();
        assert!(compiled.status.success(), "{}", String::from_utf8_lossy(&compiled.stderr));
        skew
    }

    fn library(&self) -> PathBuf {
        self.home.path().join("skew.so")
    }

    fn file(&self) -> PathBuf {
        self.home.path().join("seconds")
    }

    /// Sets the number of seconds that the clock is ahead from now on. The file is written by one write of a fixed length,
    /// because processes read it at the same time.
    fn step(&self, seconds: i64) {
        use std::os::unix::fs::FileExt as _;
        let file =
            std::fs::File::options().create(true).truncate(false).write(true).open(self.file()).unwrap();
        file.write_all_at(format!("{seconds:<20}").as_bytes(), 0).unwrap();
    }

    fn of(&self, setup: PairSetup, service: Service) -> PairSetup {
        setup.env(service, "LD_PRELOAD", self.library()).env(service, "SKEW_FILE", self.file())
    }
}

/// Makes three orders: a confirmed, a cancelled and a reserved one.
async fn orders(pair: &TestPair) {
    let id = reserved(pair, &[("A", 2), ("B", 1)]).await;
    command(pair, &id, "confirm").send().await.unwrap();
    becomes(pair, &id, "confirmed").await;
    let id = reserved(pair, &[("A", 1)]).await;
    command(pair, &id, "cancel").send().await.unwrap();
    becomes(pair, &id, "cancelled").await;
    reserved(pair, &[("B", 1)]).await;
}

async fn stocked(setup: PairSetup) -> TestPair {
    let pair = setup.start().await.unwrap();
    for sku in ["A", "B"] {
        pair.stock(sku, 1_000).await;
    }
    pair
}

/// The value of a series in a service's metrics.
async fn metric(pair: &TestPair, service: Service, series: &str) -> f64 {
    let text = pair.ops(service, 0).get("/metrics").send().await.unwrap().expect(200);
    let text = String::from_utf8(text.body.to_vec()).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(series));
    line.unwrap_or_else(|| panic!("no {series} in\n{text}")).trim().parse().unwrap()
}

#[tokio::test]
async fn orders_are_decided_and_no_invariant_breaks_while_a_hosts_clock_is_stepped_by_hours_and_days() {
    for (wrong, name, other) in
        [(Service::Order, "order", Service::Inventory), (Service::Inventory, "inventory", Service::Order)]
    {
        let skew = Skew::new();
        let pair = stocked(skew.of(setup(), wrong)).await;
        let adopted = format!("mainstay_clock_adoptions_total{{peer=\"{name}\"}}");
        assert!(metric(&pair, other, &adopted).await < 1.0, "the series exists from the start, at zero");
        for seconds in [2, HOUR, -HOUR, -DAY, DAY, 0] {
            skew.step(seconds);
            orders(&pair).await;
        }
        // The hybrid clocks of both services are a day ahead now. They stay after their causes in a new process too.
        pair.kill(wrong, 0).await;
        pair.launch(wrong, 0).await;
        pair.ready(wrong, 0).await;
        orders(&pair).await;
        sound(&pair).await;
        let clocks = pair.check(true).await.unwrap().clocks;
        let ahead = clocks.offsets.iter().filter(|offset| offset.ahead != offset.behind);
        let most = ahead.map(|offset| offset.milliseconds).max().unwrap_or_default();
        assert!((86_000_000..90_000_000).contains(&most), "{clocks:?}");

        assert!(metric(&pair, other, &adopted).await > 0.0);
        let offset = format!("mainstay_clock_offset_seconds{{peer=\"{name}\"}}");
        assert!(metric(&pair, other, &offset).await > 80_000.0);
        let log = std::fs::read_to_string(pair.log_file(other, 0)).unwrap();
        let told = log.lines().filter(|line| line.contains("was adopted; check both hosts")).count();
        assert!((1..=12).contains(&told), "{told} warnings of {other}");
    }
}

#[tokio::test]
async fn a_replay_by_a_replica_with_a_right_clock_is_after_the_entry_of_a_replica_that_was_ahead() {
    let skew = Skew::new();
    let pair = stocked(skew.of(setup(), Service::Inventory)).await;
    skew.step(HOUR);
    pair.hop().script(When::every("POST /v1/reservations"), Fault::LoseReply(Ending::Reset));
    let placed = order(&pair, &[("A", 1)]).deadline(Duration::from_millis(900)).send().await.unwrap();
    let id = placed.expect(202).json()["id"].as_str().unwrap().to_owned();
    becomes(&pair, &id, "reserve_unknown").await;
    pair.kill(Service::Inventory, 0).await;
    skew.step(0);
    pair.launch(Service::Inventory, 0).await;
    pair.ready(Service::Inventory, 0).await;
    pair.hop().heal();
    becomes(&pair, &id, "reserved").await;
    sound(&pair).await;
    let clocks = pair.check(true).await.unwrap().clocks;
    let offset = clocks.offsets.iter().find(|offset| offset.ahead == Side::Inventory);
    assert!(offset.is_some_and(|offset| offset.milliseconds > 3_500_000), "{clocks:?}");
}

#[tokio::test]
async fn holds_expire_on_time_while_a_services_clock_is_wrong() {
    for wrong in Service::BOTH {
        let skew = Skew::new();
        let pair = stocked(skew.of(setup(), wrong).env(Service::Order, "HOLD_SECONDS", "2")).await;
        for seconds in [HOUR, -HOUR] {
            skew.step(seconds);
            let id = reserved(&pair, &[("A", 1)]).await;
            becomes(&pair, &id, "expired").await;
        }
        pair.settle(RESOLVED).await;
        pair.assert_invariants(true).await;
    }
}
