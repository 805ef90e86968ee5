//! The state of a process of the pair, which shows whether a service that does not answer is stopped or gone.

/// The state of a process as the kernel reports it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ProcessState {
    /// Suspended by SIGSTOP or a debugger: it answers nothing until SIGCONT.
    Stopped,
    /// The process runs or sleeps.
    Alive,
    /// The process does not exist or has ended.
    Gone,
}

impl ProcessState {
    /// Reads the state of a process; `None` where the kernel has no `/proc`.
    pub(crate) fn of(pid: u32) -> Option<Self> {
        if !std::path::Path::new("/proc/self/stat").exists() {
            return None;
        }
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        // The format is "pid (command) state …"; the command may itself have spaces and parentheses.
        Some(match stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next()) {
            Some('T' | 't') => Self::Stopped,
            None | Some('Z' | 'X') => Self::Gone,
            Some(_) => Self::Alive,
        })
    }

    /// A clause about process `pid`.
    pub(crate) fn describe(self, pid: u32) -> String {
        match self {
            Self::Stopped => format!("process {pid} is stopped (SIGSTOP)"),
            Self::Alive => format!("process {pid} is alive and hangs, or is busy"),
            Self::Gone => format!("process {pid} is gone"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_os = "linux")]
    fn a_running_process_is_alive_and_an_unused_id_is_gone() {
        assert_eq!(ProcessState::of(std::process::id()), Some(ProcessState::Alive));
        assert_eq!(ProcessState::of(u32::MAX), Some(ProcessState::Gone));
    }
}
