//! Processor time of processes.
//!
//! Other work on the machine changes the rate of orders, but hardly the processor time of an order.

use std::path::Path;

/// Clock ticks per second in `/proc` (`USER_HZ`): 100 on every Linux.
const TICKS: f64 = 100.0;

/// Seconds of processor time that these processes and their children have used so far.
pub(crate) fn seconds(pids: impl IntoIterator<Item = u32>) -> f64 {
    pids.into_iter().map(|pid| of(pid) + children(pid).into_iter().map(of).sum::<f64>()).sum()
}

/// Seconds of processor time of one process and of its children that have ended.
fn of(pid: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The name, in parentheses, may contain any character. The fields after it are numbers. The fields 14 to 17 of the
    // line are the user and system time of the process and of the children it has waited for. After the name they are
    // the fields 12 to 15.
    let after = stat.rsplit_once(')').map_or("", |(_, after)| after);
    after.split_whitespace().skip(11).take(4).filter_map(|ticks| ticks.parse::<f64>().ok()).sum::<f64>()
        / TICKS
}

fn children(pid: u32) -> Vec<u32> {
    let list = Path::new("/proc").join(pid.to_string()).join("task").join(pid.to_string()).join("children");
    let list = std::fs::read_to_string(list).unwrap_or_default();
    list.split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}
