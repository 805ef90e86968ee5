//! The user that runs PostgreSQL. PostgreSQL refuses to run as root. A root process (containers, CI) runs it as the
//! user `postgres`.

use std::io;

/// The ids of an unprivileged user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Account {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

/// The account that runs PostgreSQL; `None` when this process is unprivileged and can run PostgreSQL itself.
///
/// # Errors
/// This process is root and the machine has no user `postgres`.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_read_from_the_line_whose_user_name_is_equal() {
        let passwd = "root:x:0:0:root:/root:/bin/sh\npostgres2:x:7:8::/:/bin/sh\npostgres:x:101:104:,,,:/var/lib:/bin/sh\n";
        assert_eq!(parse(passwd, "postgres"), Some(Account { uid: 101, gid: 104 }));
        assert_eq!(parse(passwd, "nobody"), None);
        assert_eq!(parse("postgres:x:nonsense:1:::", "postgres"), None);
    }
}
