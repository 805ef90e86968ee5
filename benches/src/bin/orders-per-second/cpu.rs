//! Processor time, which says what an order costs even where other work on the machine decides how many there are.

use std::path::Path;

/// Ticks of `/proc`'s times in a second: `USER_HZ`, which is 100 on every Linux.
const TICKS: f64 = 100.0;

/// Seconds of processor time that these processes and their children have used so far.
pub(crate) fn seconds(pids: impl IntoIterator<Item = u32>) -> f64 {
    pids.into_iter().map(|pid| of(pid) + children(pid).into_iter().map(of).sum::<f64>()).sum()
}

/// Of one process and of those of its children that have ended.
fn of(pid: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The name, in parentheses, may hold anything; what follows it is numbers. User and system time, its own and
    // that of children it has waited for, are the 14th to 17th field of the line, so 12th to 15th after the name.
    let after = stat.rsplit_once(')').map_or("", |(_, after)| after);
    after.split_whitespace().skip(11).take(4).filter_map(|ticks| ticks.parse::<f64>().ok()).sum::<f64>()
        / TICKS
}

fn children(pid: u32) -> Vec<u32> {
    let list = Path::new("/proc").join(pid.to_string()).join("task").join(pid.to_string()).join("children");
    let list = std::fs::read_to_string(list).unwrap_or_default();
    list.split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}
