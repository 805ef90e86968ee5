//! PostgreSQL refuses to run as root; when we are root (containers, CI), it runs as the `postgres` user.

use std::io;
use std::path::Path;

/// An unprivileged user's ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Account {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

/// `None` when this process is unprivileged already and can run PostgreSQL itself.
/// `Err` when it is root and the machine has no `postgres` user to change to.
pub(crate) fn for_postgres() -> io::Result<Option<Account>> {
    if !rustix::process::geteuid().is_root() {
        return Ok(None);
    }
    let passwd = std::fs::read_to_string("/etc/passwd")?;
    parse(&passwd, "postgres").map(Some).ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
}

fn parse(passwd: &str, user: &str) -> Option<Account> {
    let line = passwd.lines().find(|line| line.split(':').next() == Some(user))?;
    let mut ids = line.split(':').skip(2).map(str::parse);
    Some(Account { uid: ids.next()?.ok()?, gid: ids.next()?.ok()? })
}

/// Creates a directory only its owner may enter, owned by `account` when one is given. Those above it are
/// created as usual, for `account` has to pass through them.
pub(crate) fn private_directory(path: &Path, account: Option<Account>) -> io::Result<()> {
    use std::os::unix::fs::{DirBuilderExt, chown};
    path.parent().map_or(Ok(()), std::fs::create_dir_all)?;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path)?;
    account.map_or(Ok(()), |account| chown(path, Some(account.uid), Some(account.gid)))
}

/// Writes a file only its owner may read, owned by `account` when one is given.
pub(crate) fn private_file(path: &Path, content: &str, account: Option<Account>) -> io::Result<()> {
    use std::io::Write;
    use std::os::unix::fs::{OpenOptionsExt, fchown};
    let mut file =
        std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    if let Some(account) = account {
        fchown(&file, Some(account.uid), Some(account.gid))?;
    }
    file.write_all(content.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_come_from_the_line_of_exactly_that_user() {
        let passwd = "root:x:0:0:root:/root:/bin/sh\npostgres2:x:7:8::/:/bin/sh\npostgres:x:101:104:,,,:/var/lib:/bin/sh\n";
        assert_eq!(parse(passwd, "postgres"), Some(Account { uid: 101, gid: 104 }));
        assert_eq!(parse(passwd, "nobody"), None);
        assert_eq!(parse("postgres:x:nonsense:1:::", "postgres"), None);
    }
}
