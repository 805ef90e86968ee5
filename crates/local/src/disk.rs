//! Free space on file systems.

use std::path::Path;

/// The bytes that an ordinary user can still write on the file system of `path`; `None` when the system does not
/// tell.
pub fn free_bytes(path: &Path) -> Option<u64> {
    let stat = rustix::fs::statvfs(path).ok()?;
    Some(stat.f_bavail * stat.f_frsize)
}
