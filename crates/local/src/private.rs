//! Files and directories that only one user can read.

use std::fs::{DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, chown, fchown};
use std::path::Path;

use crate::account::Account;

/// Creates a directory that only its owner may enter. Missing parents are created with the usual rights.
pub fn directory(path: &Path) -> io::Result<()> {
    directory_of(path, None)
}

/// Writes a file that only its owner may read. A concurrent reader sees the old content or the new, never a part.
pub fn file(path: &Path, content: &str) -> io::Result<()> {
    let new = path.with_extension("new");
    match std::fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _removed_or_none => {}
    }
    file_of(&new, content, None)?;
    std::fs::rename(new, path)
}

/// Like [`directory`], but owned by `account`, which must be able to enter the parents.
pub(crate) fn directory_of(path: &Path, account: Option<Account>) -> io::Result<()> {
    path.parent().map_or(Ok(()), std::fs::create_dir_all)?;
    DirBuilder::new().recursive(true).mode(0o700).create(path)?;
    account.map_or(Ok(()), |account| chown(path, Some(account.uid), Some(account.gid)))
}

/// Creates or overwrites a file owned by `account`.
pub(crate) fn file_of(path: &Path, content: &str, account: Option<Account>) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    if let Some(account) = account {
        fchown(&file, Some(account.uid), Some(account.gid))?;
    }
    file.write_all(content.as_bytes())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::TemporaryDirectory;

    #[tokio::test]
    async fn writing_a_file_that_all_users_could_read_restricts_it_to_its_owner() {
        let scratch = TemporaryDirectory::create_in(&std::env::temp_dir()).unwrap();
        let path = scratch.path().join("inner/file");
        directory(path.parent().unwrap()).unwrap();
        std::fs::write(&path, "old").unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o644)).unwrap();
        file(&path, "new").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "new");
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));
    }
}
