//! Room on file systems.

use std::path::Path;

/// Free bytes on the file system of a path, for an ordinary user; `None` when it cannot be asked.
pub fn free_bytes(path: &Path) -> Option<u64> {
    let stat = rustix::fs::statvfs(path).ok()?;
    Some(stat.f_bavail * stat.f_frsize)
}
