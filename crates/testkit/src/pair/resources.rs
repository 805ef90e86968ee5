//! Sockets and memory of a process, read from `/proc`. After a test they must be back near their baseline.

use checker::{Gauge, Side};

/// Sockets above the baseline that are no leak: the connection pool (16 at most) and idle client connections.
const SOCKET_SLACK: f64 = 64.0;
/// Bytes above the baseline that are no leak: an allocator keeps memory after a burst. A real leak exceeds this within
/// one test.
const MEMORY_SLACK: f64 = 96.0 * 1024.0 * 1024.0;

/// Gauges of the process `pid`, with the present levels as their baseline.
pub(super) fn baseline(service: Side, pid: u32) -> Vec<Gauge> {
    let gauge = |name: &str, level: Option<f64>, slack| {
        let level = level?;
        Some(Gauge { service, name: name.to_owned(), baseline: level, now: level, slack })
    };
    let gauges = [
        gauge("sockets", sockets(pid), SOCKET_SLACK),
        gauge("resident_bytes", resident_bytes(pid), MEMORY_SLACK),
    ];
    gauges.into_iter().flatten().collect()
}

/// The gauges of `baseline` with the present levels of the process. Empty for a dead process.
pub(super) fn now(pid: Option<u32>, baseline: &[Gauge]) -> Vec<Gauge> {
    let Some(pid) = pid else { return Vec::new() };
    let now = |gauge: &Gauge| {
        let level = if gauge.name == "sockets" { sockets(pid) } else { resident_bytes(pid) };
        level.map(|now| Gauge { now, ..gauge.clone() })
    };
    baseline.iter().filter_map(now).collect()
}

/// Number of open sockets, or `None` on a system without `/proc`. The checker then reports that it had nothing to
/// check.
fn sockets(pid: u32) -> Option<f64> {
    let files = std::fs::read_dir(format!("/proc/{pid}/fd")).ok()?;
    let sockets = files.filter_map(Result::ok).filter_map(|file| std::fs::read_link(file.path()).ok());
    let count = sockets.filter(|target| target.to_string_lossy().starts_with("socket:")).count();
    u32::try_from(count).ok().map(f64::from)
}

fn resident_bytes(pid: u32) -> Option<f64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u32 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(f64::from(kib) * 1024.0)
}
