//! Metrics as Prometheus text.

use std::sync::OnceLock;
use std::time::Duration;

use metrics::{counter, describe_counter, describe_gauge, gauge};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

use crate::log::Dropped;
use crate::process::{self, Start};
use crate::{InitError, TelemetryConfig};

/// Upper bounds, in seconds, of the buckets of every histogram whose name ends in `_seconds`.
///
/// They reach from 1 ms, one local database statement, to 30 s, the longest deadline that a request may ask for.
/// Each is about twice the one before. The latency objectives in `slo/` are among them: 0.1 s, 0.3 s and 10 s.
pub const SECONDS_BUCKETS: [f64; 14] =
    [0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.3, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0];

/// Interval of the recorder's upkeep.
///
/// The recorder keeps samples in memory until a scrape adds them to their buckets. The upkeep adds them when no
/// scraper does, so that memory stays bounded.
const UPKEEP: Duration = Duration::from_secs(5);

const DROPPED_LINES: &str = "telemetry_log_lines_dropped_total";

struct Installed {
    handle: PrometheusHandle,
    dropped_lines: Dropped,
    start: Start,
}

static INSTALLED: OnceLock<Installed> = OnceLock::new();

pub(crate) fn install(config: &TelemetryConfig, dropped_lines: Dropped) -> Result<(), InitError> {
    let recorder = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &SECONDS_BUCKETS)
        .expect("the list of buckets is not empty")
        .build_recorder();
    let handle = recorder.handle();
    metrics::set_global_recorder(recorder).map_err(|_| InitError::Twice)?;
    let upkeep = handle.clone();
    INSTALLED.set(Installed { handle, dropped_lines, start: Start::now() }).map_err(|_| InitError::Twice)?;
    describe_gauge!("build_info", "Always 1; the labels name the running service, version and revision");
    describe_counter!(
        DROPPED_LINES,
        "Log lines dropped because the reader of the log was too slow or the output failed"
    );
    describe_counter!("telemetry_spans_total", "Finished spans by result: exported, failed or dropped");
    // A series that begins above zero has no increase, so a rule would miss the first drops.
    counter!(DROPPED_LINES).increment(0);
    for result in ["exported", "failed", "dropped"] {
        counter!("telemetry_spans_total", "result" => result).increment(0);
    }
    let labels = [
        ("service", config.service_name.to_owned()),
        ("version", config.version.to_owned()),
        ("revision", config.revision.to_owned()),
        ("instance_id", config.instance_id.clone()),
        ("environment", config.environment.clone()),
    ];
    gauge!("build_info", &labels).set(1.0);
    std::thread::Builder::new().name("metrics-upkeep".to_owned()).spawn(move || {
        loop {
            std::thread::sleep(UPKEEP);
            upkeep.run_upkeep();
        }
    })?;
    Ok(())
}

/// All metrics as Prometheus text. The text is empty before [`init`](crate::init).
pub fn render_metrics() -> String {
    let Some(installed) = INSTALLED.get() else { return String::new() };
    metrics::counter!(DROPPED_LINES).absolute(installed.dropped_lines.total());
    let mut text = installed.handle.render();
    process::append(&mut text, &installed.start);
    text
}
