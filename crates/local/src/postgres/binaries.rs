//! The server's programs. Distributions keep `initdb` and `postgres` off the PATH.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::PostgresError;
use crate::system::System;

/// The oldest major version with everything that the services need: `pg_snapshot` functions, `REVOKE` semantics, and
/// `client_connection_check_interval`, which systems other than Linux got one version later.
const OLDEST_MAJOR: u32 = if cfg!(target_os = "linux") { 14 } else { 15 };

/// The environment variable that names a directory with `initdb` and `postgres`. It overrides every directory found
/// by searching.
pub const BINARIES_VARIABLE: &str = "MAINSTAY_POSTGRES_BIN";

/// A directory with a usable `initdb` and `postgres`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binaries {
    pub directory: PathBuf,
    pub major: u32,
}

/// Finds the server's programs, in this order: `given`, the variable [`BINARIES_VARIABLE`], PATH, `pg_config
/// --bindir`, and the usual directories of distributions, newest version first. `major` is the version of an existing
/// data directory, which no other version can open.
pub fn find(given: Option<&Path>, major: Option<u32>) -> Result<Binaries, PostgresError> {
    let named = given.map(Path::to_owned).or_else(|| std::env::var_os(BINARIES_VARIABLE).map(PathBuf::from));
    let candidates = named.map_or_else(usual_places, |directory| vec![directory]);
    let suits = |found: &Binaries| major.map_or(found.major >= OLDEST_MAJOR, |wanted| found.major == wanted);
    candidates.iter().filter_map(|directory| inspect(directory)).find(suits).ok_or_else(|| {
        PostgresError::NotInstalled {
            wanted: major.map_or_else(
                || format!("{OLDEST_MAJOR} or newer"),
                |major| format!("{major} (the version of the data)"),
            ),
            looked_in: candidates
                .iter()
                .map(|path| path.display().to_string())
                .collect::<Vec<_>>()
                .join(", "),
            install: System::detect().install_postgres(),
        }
    })
}

fn inspect(directory: &Path) -> Option<Binaries> {
    let output = Command::new(directory.join("postgres")).arg("--version").output().ok()?;
    let has_initdb = directory.join("initdb").is_file();
    let major = parse_major(&String::from_utf8_lossy(&output.stdout)).filter(|_| has_initdb)?;
    Some(Binaries { directory: directory.to_owned(), major })
}

/// Parses `postgres (PostgreSQL) 15.14 (Debian 15.14-0+deb12u1)` or `… 18beta1`.
fn parse_major(version: &str) -> Option<u32> {
    let number = version.split("(PostgreSQL) ").nth(1)?;
    number.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

fn usual_places() -> Vec<PathBuf> {
    let mut places: Vec<PathBuf> = std::env::var_os("PATH")
        .iter()
        .flat_map(std::env::split_paths)
        .filter(|directory| directory.join("postgres").is_file())
        .collect();
    if let Ok(output) = Command::new("pg_config").arg("--bindir").output() {
        places.push(PathBuf::from(String::from_utf8_lossy(&output.stdout).trim()));
    }
    places.extend(versioned("/usr/lib/postgresql", "", "bin")); // Debian
    places.extend(versioned("/usr", "pgsql-", "bin")); // the PostgreSQL project's own RPMs
    places.extend(versioned("/opt/homebrew/opt", "postgresql@", "bin"));
    places.extend(versioned("/usr/local/opt", "postgresql@", "bin"));
    places
}

/// Lists the directories `parent/{prefix}{number}/{inside}` that exist, highest number first.
fn versioned(parent: &str, prefix: &str, inside: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(parent).into_iter().flatten().flatten();
    let mut found: Vec<(u32, PathBuf)> = entries
        .filter_map(|entry| {
            let number = entry.file_name().to_str()?.strip_prefix(prefix)?.parse().ok()?;
            Some((number, entry.path().join(inside)))
        })
        .collect();
    found.sort_by_key(|(number, _)| std::cmp::Reverse(*number));
    found.into_iter().map(|(_, path)| path).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_major_version_is_read_from_every_spelling() {
        assert_eq!(parse_major("postgres (PostgreSQL) 15.14 (Debian 15.14-0+deb12u1)\n"), Some(15));
        assert_eq!(parse_major("postgres (PostgreSQL) 18beta1\n"), Some(18));
        assert_eq!(parse_major("postgres (EnterpriseDB) x"), None);
        assert_eq!(parse_major(""), None);
    }

    #[test]
    fn a_directory_without_a_server_is_refused_with_the_command_that_installs_one() {
        let message = find(Some(Path::new("/nowhere")), None).unwrap_err().to_string();
        assert!(message.contains("14 or newer"), "{message}");
        assert!(message.contains("/nowhere"), "{message}");
        assert!(message.contains(System::detect().install_postgres()), "{message}");
    }

    #[test]
    fn a_data_directory_of_another_version_is_refused_by_that_version() {
        let message = find(None, Some(9)).unwrap_err().to_string();
        assert!(message.contains("no PostgreSQL 9 (the version of the data) server"), "{message}");
    }

    #[test]
    fn the_newest_version_comes_first() {
        let root = std::env::temp_dir().join(format!("mainstay-binaries-{}", uuid::Uuid::new_v4()));
        for version in ["9", "17", "15", "not-a-version"] {
            std::fs::create_dir_all(root.join(version)).unwrap();
        }
        let found = versioned(root.to_str().unwrap(), "", "bin");
        std::fs::remove_dir_all(&root).unwrap();
        assert_eq!(found, ["17", "15", "9"].map(|version| root.join(version).join("bin")));
    }
}
