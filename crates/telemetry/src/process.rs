//! Metrics of the process itself: memory, processor time, file descriptors and runtime tasks.
//!
//! They are measured each time the metrics are rendered. Most come from the text files of Linux's `/proc`; on a system
//! without `/proc` those metrics are absent and nothing fails.

use std::fs;

use metrics::{Unit, counter, describe_counter, describe_gauge, gauge};
use tokio::time::Instant;

/// Clock ticks per second in `/proc/self/stat`: 100 on every architecture that Linux runs on today.
const USER_HZ: u64 = 100;

pub(crate) fn describe() {
    describe_gauge!("process_resident_memory_bytes", Unit::Bytes, "Resident memory");
    describe_gauge!("process_open_fds", "Open file descriptors");
    describe_gauge!("process_uptime_seconds", Unit::Seconds, "Time since telemetry was set up");
    describe_counter!("process_cpu_seconds_total", Unit::Seconds, "Processor time, user and system");
    describe_gauge!("tokio_alive_tasks", "Runtime tasks that have not ended");
    describe_gauge!("tokio_global_queue_depth", "Tasks that wait for a runtime worker");
}

/// Measures the process and updates its metrics.
///
/// It takes a few microseconds, and one more for every hundred file descriptors.
#[expect(clippy::cast_precision_loss, reason = "a gauge is a float; 2^53 bytes or tasks are out of reach")]
pub(crate) fn observe(started: Instant) {
    gauge!("process_uptime_seconds").set(started.elapsed().as_secs_f64());
    if let Some(bytes) = resident_bytes() {
        gauge!("process_resident_memory_bytes").set(bytes as f64);
    }
    if let Ok(descriptors) = fs::read_dir("/proc/self/fd") {
        // Reading the directory opens a descriptor of its own, which does not count.
        gauge!("process_open_fds").set(descriptors.count().saturating_sub(1) as f64);
    }
    if let Some(seconds) = cpu_seconds() {
        counter!("process_cpu_seconds_total").absolute(seconds);
    }
    if let Ok(runtime) = tokio::runtime::Handle::try_current() {
        gauge!("tokio_alive_tasks").set(runtime.metrics().num_alive_tasks() as f64);
        gauge!("tokio_global_queue_depth").set(runtime.metrics().global_queue_depth() as f64);
    }
}

fn resident_bytes() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1_024)
}

/// Processor time in whole seconds, because a counter of the `metrics` crate is an integer.
fn cpu_seconds() -> Option<u64> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    // The command's name stands in brackets and may contain spaces. The fields after it contain none.
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_whitespace().skip(11).map(str::parse::<u64>);
    let (user, system) = (fields.next()?.ok()?, fields.next()?.ok()?);
    Some((user + system) / USER_HZ)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn memory_and_processor_time_are_read_from_proc() {
        assert!(resident_bytes().unwrap() > 100_000);
        assert!(cpu_seconds().is_some());
    }
}
