//! The kind of this system, as far as it decides which command installs a package.

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum System {
    Debian,
    Fedora,
    Alpine,
    Arch,
    MacOs,
    Other,
}

impl System {
    /// Detects the system from `/etc/os-release`. Ubuntu and its like name Debian there, as Rocky and its like name
    /// Fedora or RHEL.
    pub fn detect() -> Self {
        if cfg!(target_os = "macos") {
            return Self::MacOs;
        }
        Self::from_release(&std::fs::read_to_string("/etc/os-release").unwrap_or_default())
    }

    fn from_release(release: &str) -> Self {
        let names: Vec<&str> = release
            .lines()
            .filter_map(|line| line.strip_prefix("ID=").or_else(|| line.strip_prefix("ID_LIKE=")))
            .flat_map(|value| value.trim_matches('"').split(' '))
            .collect();
        let known = [
            ("debian", Self::Debian),
            ("ubuntu", Self::Debian),
            ("fedora", Self::Fedora),
            ("rhel", Self::Fedora),
            ("alpine", Self::Alpine),
            ("arch", Self::Arch),
        ];
        known.iter().find(|(name, _)| names.contains(name)).map_or(Self::Other, |(_, system)| *system)
    }

    pub fn install_postgres(self) -> &'static str {
        match self {
            Self::Debian => "sudo apt-get install postgresql",
            Self::Fedora => "sudo dnf install postgresql-server",
            Self::Alpine => "apk add postgresql",
            Self::Arch => "sudo pacman -S postgresql",
            Self::MacOs => "brew install postgresql@17",
            Self::Other => "your system's package `postgresql` or `postgresql-server`",
        }
    }

    pub fn install_docker(self) -> &'static str {
        match self {
            Self::Debian => "sudo apt-get install docker.io docker-compose",
            Self::Fedora => "sudo dnf install docker docker-compose",
            Self::Alpine => "apk add docker docker-cli-compose",
            Self::Arch => "sudo pacman -S docker docker-compose",
            Self::MacOs => "brew install colima docker docker-compose && colima start",
            Self::Other => "your system's packages for docker and docker compose",
        }
    }
}

/// The number of files that this process may have open; `None` is no limit.
pub fn open_file_limit() -> Option<u64> {
    rustix::process::getrlimit(rustix::process::Resource::Nofile).current
}

/// Returns whether a process with this id exists, under any user.
pub fn process_exists(pid: u32) -> bool {
    let pid = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw);
    pid.is_some_and(|pid| rustix::process::test_kill_process(pid) != Err(rustix::io::Errno::SRCH))
}

/// The effective user id of this process.
pub fn user_id() -> u32 {
    rustix::process::geteuid().as_raw()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_system_is_detected_by_its_own_name_or_by_a_name_that_it_is_like() {
        for (release, system) in [
            ("PRETTY_NAME=\"Debian GNU/Linux 12\"\nID=debian\n", System::Debian),
            ("ID=linuxmint\nID_LIKE=\"ubuntu debian\"\n", System::Debian),
            ("ID=\"rocky\"\nID_LIKE=\"rhel centos fedora\"\n", System::Fedora),
            ("ID=alpine\n", System::Alpine),
            ("ID=archcraft\n", System::Other),
            ("", System::Other),
        ] {
            assert_eq!(System::from_release(release), system, "{release}");
        }
    }

    #[test]
    fn this_process_exists_and_one_beyond_the_last_id_does_not() {
        assert!(process_exists(std::process::id()));
        assert!(!process_exists(u32::MAX >> 1)); // the kernel's largest id is 2^22
        assert!(!process_exists(0));
    }
}
