//! A directory that is removed with the process that made it, even after `kill -9`.

use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use uuid::Uuid;

/// Shell script that waits until its parent closes the pipe (the kernel does so for a dead parent), then until a
/// PostgreSQL that still runs in the directory has ended, and then removes the directory.
const REMOVE_AT_END_OF_INPUT: &str = r#"
read -r _
while read -r server <"$1/postgres/data/postmaster.pid" && kill -0 "$server"; do sleep 0.1; done 2>/dev/null
while [ -d "$1" ]; do rm -rf "$1" || sleep 0.1; done 2>/dev/null
"#;

/// A temporary directory. It is removed some milliseconds after this value is dropped or its process has died.
#[derive(Debug)]
pub struct TemporaryDirectory {
    path: PathBuf,
    guard: Child,
}

impl TemporaryDirectory {
    /// Creates the directory below `parent`, with a random name. Other users may enter it (a PostgreSQL that runs as
    /// `postgres` must reach its own directory inside) but not list it.
    pub fn create_in(parent: &Path) -> io::Result<Self> {
        let path = std::path::absolute(parent)?.join(format!("mainstay-{}", Uuid::new_v4().simple()));
        std::fs::DirBuilder::new().mode(0o711).create(&path)?;
        let guard = Command::new("sh")
            .args(["-c", REMOVE_AT_END_OF_INPUT, "sh"])
            .arg(&path)
            .current_dir("/")
            .process_group(0) // Ctrl-C must not end the guard
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .inspect_err(|_| {
                let _empty = std::fs::remove_dir(&path);
            })?;
        Ok(Self { path, guard })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Waits until the directory is gone. Dropping does the same without waiting.
    pub async fn remove(mut self) -> io::Result<()> {
        drop(self.guard.stdin.take());
        while self.guard.try_wait()?.is_none() {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn remove_deletes_the_directory_and_its_contents() {
        let directory = TemporaryDirectory::create_in(&std::env::temp_dir()).unwrap();
        let path = directory.path().to_owned();
        std::fs::create_dir(path.join("inner")).unwrap();
        std::fs::write(path.join("inner/file"), "x").unwrap();
        directory.remove().await.unwrap();
        assert!(!path.exists());
    }
}
