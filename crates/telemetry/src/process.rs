//! Figures of the process itself, read when the metrics are. Linux's `/proc` is read as text; where it is missing
//! the figures are missing too, and nothing fails.

use std::fs;

use metrics::{Unit, counter, describe_counter, describe_gauge, gauge};
use tokio::time::Instant;

/// Clock ticks a second in `/proc/self/stat`: `USER_HZ`, 100 on every architecture Linux runs on today.
const USER_HZ: u64 = 100;

pub(crate) fn describe() {
    describe_gauge!("process_resident_memory_bytes", Unit::Bytes, "Memory that is resident");
    describe_gauge!("process_open_fds", "Open file descriptors");
    describe_gauge!("process_uptime_seconds", Unit::Seconds, "Time since telemetry was set up");
    describe_counter!("process_cpu_seconds_total", Unit::Seconds, "Processor time, user and system");
    describe_gauge!("tokio_alive_tasks", "Tasks of the runtime that have not ended");
    describe_gauge!("tokio_global_queue_depth", "Tasks that wait for a worker of the runtime");
}

/// Takes the figures now. A few microseconds, and one more for every hundred descriptors.
#[expect(clippy::cast_precision_loss, reason = "a gauge is a float; 2^53 bytes or tasks are out of reach")]
pub(crate) fn observe(started: Instant) {
    gauge!("process_uptime_seconds").set(started.elapsed().as_secs_f64());
    if let Some(bytes) = resident_bytes() {
        gauge!("process_resident_memory_bytes").set(bytes as f64);
    }
    if let Ok(descriptors) = fs::read_dir("/proc/self/fd") {
        // One of them is the directory being read.
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

/// Whole seconds: a counter here is a whole number.
fn cpu_seconds() -> Option<u64> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    // The command's name, in brackets, may hold spaces; what follows it does not.
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_whitespace().skip(11).map(str::parse::<u64>);
    let (user, system) = (fields.next()?.ok()?, fields.next()?.ok()?);
    Some((user + system) / USER_HZ)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn figures_are_read_from_proc() {
        assert!(resident_bytes().unwrap() > 100_000);
        assert!(cpu_seconds().is_some());
    }
}
