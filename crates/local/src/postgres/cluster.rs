//! The cluster's files and its processes.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use sqlx::postgres::PgConnectOptions;
use tokio::time::{Instant, sleep};

use super::{LOOK_EVERY, PostgresError, PostgresOptions, SUPERUSER, binaries, loopback};
use crate::account::{self, Account};
use crate::{Secret, ports, private};

/// The longest time that a server whose parent died needs to notice and shut down; on an idle machine it needs a
/// tenth.
pub(super) const PREDECESSOR_ENDS_WITHIN: Duration = Duration::from_secs(15);

const WATCH: &str = include_str!("watch.sh");

#[derive(Debug)]
pub(super) struct Cluster {
    /// Directory of `data`, `log` and `password`. It belongs to the user that runs the server.
    pub(super) directory: PathBuf,
    pub(super) port: u16,
    pub(super) ready_within: Duration,
    binaries: PathBuf,
    account: Option<Account>,
    password: Secret,
    settings: Vec<(String, String)>,
}

impl Cluster {
    /// Finds the server's programs and prepares the data directory: an existing one, or a new one from `initdb`.
    pub(super) async fn prepare(root: &Path, options: &PostgresOptions) -> Result<Self, PostgresError> {
        let account = account::for_postgres().map_err(|_no_such_user| PostgresError::NoUnprivilegedUser)?;
        let root = std::path::absolute(root).map_err(PostgresError::io(root))?;
        let directory = root.join("postgres");
        let version = fs::read_to_string(directory.join("data/PG_VERSION")).ok();
        let found = binaries::find(
            options.binaries.as_deref(),
            version.as_deref().and_then(|major| major.trim().parse().ok()),
        )?;
        private::directory_of(&directory, account).map_err(PostgresError::io(&directory))?;
        let password_file = directory.join("password");
        let mut cluster = Self {
            port: options.port.map_or_else(ports::free, Ok).map_err(PostgresError::io(&directory))?,
            ready_within: options.ready_within,
            binaries: found.directory,
            account,
            password: Secret::generate(),
            settings: settings(options),
            directory,
        };
        if version.is_some() {
            cluster.password = fs::read_to_string(&password_file)
                .map(Secret::new)
                .map_err(PostgresError::io(&password_file))?;
        } else {
            private::file_of(&password_file, cluster.password.expose(), account)
                .map_err(PostgresError::io(&password_file))?;
            cluster.initialise(options.fsync).await?;
        }
        Ok(cluster)
    }

    /// Creates the data directory. `initdb` works on `data.new`, which is then renamed, so that a `data` directory is
    /// always complete.
    async fn initialise(&self, fsync: bool) -> Result<(), PostgresError> {
        let (new, data) = (self.directory.join("data.new"), self.data());
        if new.exists() {
            fs::remove_dir_all(&new).map_err(PostgresError::io(&new))?;
        }
        let mut arguments: Vec<OsString> = vec!["-D".into(), new.clone().into()];
        arguments
            .extend(["--username", SUPERUSER, "--auth", "scram-sha-256", "--pwfile"].map(OsString::from));
        arguments.push(self.directory.join("password").into());
        arguments.extend(["--encoding", "UTF8", "--locale", "C"].map(OsString::from));
        arguments.extend((!fsync).then(|| "--no-sync".into()));
        let mut initdb = self.spawn_watched("initdb", arguments)?;
        loop {
            match initdb.try_wait().map_err(PostgresError::io(&new))? {
                Some(status) if status.success() => break,
                Some(_failed) => return Err(self.death()),
                None => sleep(LOOK_EVERY).await,
            }
        }
        fs::rename(&new, &data).map_err(PostgresError::io(&data))
    }

    pub(super) fn spawn_server(&self) -> Result<Child, PostgresError> {
        let mut arguments: Vec<OsString> = vec!["-D".into(), self.data().into()];
        arguments.extend(["-p".into(), self.port.to_string().into()]);
        for (name, value) in &self.settings {
            arguments.extend(["-c".into(), format!("{name}={value}").into()]);
        }
        self.spawn_watched("postgres", arguments)
    }

    /// Runs one of the server's programs so that it ends when this process ends, for whatever reason.
    fn spawn_watched(&self, program: &str, arguments: Vec<OsString>) -> Result<Child, PostgresError> {
        let log = self.open_log().map_err(PostgresError::io(&self.directory))?;
        let also = log.try_clone().map_err(PostgresError::io(&self.directory))?;
        let mut shell = Command::new("sh");
        shell
            .args(["-c", WATCH, "sh"])
            .arg(self.binaries.join(program))
            .args(arguments)
            .current_dir("/") // readable by every user
            .process_group(0) // Ctrl-C must stop the services first, not the database under them
            .stdin(Stdio::piped())
            .stdout(log)
            .stderr(also);
        if let Some(Account { uid, gid }) = self.account {
            shell.uid(uid).gid(gid);
        }
        shell.spawn().map_err(PostgresError::io(Path::new("sh")))
    }

    /// Waits while the server of an earlier start still runs on the data. Removes the lock file of a crashed server
    /// when another program now has its process id (usual in containers): the new server would take that program for
    /// a running server. The server itself handles the lock file of a dead process.
    pub(super) async fn wait_for_predecessor(&self) -> Result<(), PostgresError> {
        let begun = Instant::now();
        while let Some(pid) = self.server_pid() {
            match occupant(pid) {
                Occupant::None => return Ok(()),
                Occupant::Another => {
                    let lock = self.lock_file();
                    return fs::remove_file(&lock).map_err(PostgresError::io(&lock));
                }
                Occupant::Postgres => {}
            }
            if begun.elapsed() > PREDECESSOR_ENDS_WITHIN {
                return Err(PostgresError::DirectoryInUse { path: self.directory.clone(), pid });
            }
            sleep(LOOK_EVERY).await;
        }
        Ok(())
    }

    pub(super) fn draw_port(&mut self) -> Result<(), PostgresError> {
        self.port = ports::free().map_err(PostgresError::io(&self.directory))?;
        Ok(())
    }

    pub(super) fn connect_options(&self, database: &str) -> PgConnectOptions {
        loopback(self.port, SUPERUSER, &self.password, database)
    }

    pub(super) fn server_pid(&self) -> Option<u32> {
        fs::read_to_string(self.lock_file()).ok()?.lines().next()?.trim().parse().ok()
    }

    /// Sends SIGKILL to the server, as a last resort. The next start recovers.
    pub(super) fn kill(&self) {
        if let Some(pid) =
            self.server_pid().filter(|pid| occupant(*pid) == Occupant::Postgres).and_then(to_pid)
        {
            let _already_gone = kill_process(pid, Signal::KILL);
        }
    }

    /// The reason why the last spawned process ended, from its log.
    pub(super) fn death(&self) -> PostgresError {
        PostgresError::from_log(self.log_tail(), &self.directory, self.port, self.account.is_some())
    }

    /// The last twenty lines of the log.
    pub(super) fn log_tail(&self) -> String {
        let log = fs::read(self.log_file()).unwrap_or_default();
        let lines: Vec<_> =
            log.split(|byte| *byte == b'\n').rev().take(20).map(String::from_utf8_lossy).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join("\n")
    }

    /// Opens a new log for every start, so that its last lines are about this start.
    fn open_log(&self) -> io::Result<File> {
        let path = self.log_file();
        match fs::rename(&path, path.with_extension("log.1")) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _moved_or_none => {}
        }
        private::file_of(&path, "", self.account)?;
        OpenOptions::new().append(true).open(path)
    }

    pub(super) fn log_file(&self) -> PathBuf {
        self.directory.join("postgres.log")
    }

    fn data(&self) -> PathBuf {
        self.directory.join("data")
    }

    fn lock_file(&self) -> PathBuf {
        self.data().join("postmaster.pid")
    }
}

fn settings(options: &PostgresOptions) -> Vec<(String, String)> {
    let on = |on| if on { "on" } else { "off" };
    let ours = [
        ("listen_addresses", "127.0.0.1"),
        ("unix_socket_directories", ""), // every session must give the password
        ("fsync", on(options.fsync)),
        ("full_page_writes", on(options.fsync)),
        ("dynamic_shared_memory_type", "mmap"), // in the data directory, so it is removed with it
        ("max_connections", &options.max_connections.to_string()),
        ("log_checkpoints", "off"),
        ("timezone", "UTC"),
        ("log_timezone", "UTC"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()));
    ours.into_iter().chain(options.settings.iter().cloned()).collect()
}

fn to_pid(pid: u32) -> Option<Pid> {
    i32::try_from(pid).ok().and_then(Pid::from_raw)
}

/// The present owner of a process id.
#[derive(Debug, PartialEq, Eq)]
enum Occupant {
    None,
    Postgres,
    Another,
}

/// Finds the present owner of a process id. A process that has ended but was not yet collected by its parent has no
/// command line and counts as gone. Where the system has no command lines (no /proc), every live process counts as
/// PostgreSQL.
fn occupant(pid: u32) -> Occupant {
    let alive = to_pid(pid).is_some_and(|pid| test_kill_process(pid) != Err(rustix::io::Errno::SRCH));
    if !alive {
        return Occupant::None;
    }
    let Ok(command_line) = fs::read(format!("/proc/{pid}/cmdline")) else {
        return if Path::new("/proc/self").exists() { Occupant::None } else { Occupant::Postgres };
    };
    let program = command_line.split(|byte| *byte == 0).next().unwrap_or_default();
    match program {
        [] => Occupant::None,
        _ if program.ends_with(b"/postgres") || program.starts_with(b"postgres") => Occupant::Postgres,
        _ => Occupant::Another,
    }
}
