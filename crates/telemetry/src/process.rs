//! Metrics of the process itself: start, memory, processor time, file descriptors and runtime tasks.
//!
//! They are measured each time the metrics are rendered, and written as text here, because a counter of the `metrics`
//! crate is an integer and processor time is not. Most come from the text files of Linux's `/proc`; on a system without
//! `/proc` those metrics are absent and nothing fails.

use std::fmt::Write as _;
use std::fs;
use std::time::SystemTime;

use tokio::time::Instant;

/// Clock ticks per second in `/proc/self/stat`: 100 on every architecture that Linux runs on today.
const USER_HZ: f64 = 100.0;

/// Time at which telemetry was set up, by both clocks.
#[derive(Debug)]
pub(crate) struct Start {
    at: Instant,
    /// Seconds since 1970.
    wall: f64,
}

impl Start {
    pub(crate) fn now() -> Self {
        let wall = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default().as_secs_f64();
        Self { at: Instant::now(), wall }
    }
}

/// Appends the process's metrics to `text`.
///
/// It takes a few microseconds, and one more for every hundred file descriptors.
pub(crate) fn append(text: &mut String, start: &Start) {
    let mut metric = |kind: &str, name: &str, help: &str, value: Option<f64>| {
        if let Some(value) = value {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}\n");
        }
    };
    metric(
        "gauge",
        "process_start_time_seconds",
        "Unix time at which telemetry was set up",
        Some(start.wall),
    );
    metric(
        "gauge",
        "process_uptime_seconds",
        "Time since telemetry was set up",
        Some(start.at.elapsed().as_secs_f64()),
    );
    metric("counter", "process_cpu_seconds_total", "Processor time, user and system", cpu_seconds());
    metric("gauge", "process_resident_memory_bytes", "Resident memory", resident_bytes());
    metric("gauge", "process_open_fds", "Open file descriptors", open_descriptors());
    let runtime = tokio::runtime::Handle::try_current().ok().map(|runtime| runtime.metrics());
    let alive = runtime.as_ref().map(tokio::runtime::RuntimeMetrics::num_alive_tasks).map(float);
    metric("gauge", "tokio_alive_tasks", "Runtime tasks that have not ended", alive);
    let queued = runtime.map(|runtime| runtime.global_queue_depth()).map(float);
    metric("gauge", "tokio_global_queue_depth", "Tasks that wait for a runtime worker", queued);
}

#[expect(clippy::cast_precision_loss, reason = "a gauge is a float; 2^53 tasks are out of reach")]
fn float(count: usize) -> f64 {
    count as f64
}

fn open_descriptors() -> Option<f64> {
    // Reading the directory opens a descriptor of its own, which does not count.
    Some(float(fs::read_dir("/proc/self/fd").ok()?.count().saturating_sub(1)))
}

fn resident_bytes() -> Option<f64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: f64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1_024.0)
}

fn cpu_seconds() -> Option<f64> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    // The command's name stands in brackets and may contain spaces. The fields after it contain none.
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_whitespace().skip(11).map(str::parse::<f64>);
    let (user, system) = (fields.next()?.ok()?, fields.next()?.ok()?);
    Some((user + system) / USER_HZ)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn memory_and_processor_time_are_read_from_proc() {
        assert!(resident_bytes().unwrap() > 100_000.0);
        assert!(cpu_seconds().is_some());
    }

    #[test]
    fn processor_time_is_measured_in_fractions_of_a_second() {
        let began = Instant::now();
        while cpu_seconds().unwrap().fract() == 0.0 {
            assert!(
                began.elapsed().as_secs() < 10,
                "a busy process has used a whole number of seconds for 10 s"
            );
        }
        let mut text = String::new();
        append(&mut text, &Start::now());
        let value = text.lines().find_map(|line| line.strip_prefix("process_cpu_seconds_total ")).unwrap();
        assert!(value.contains('.'), "{value}");
    }
}
