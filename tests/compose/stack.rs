//! The stack of docker-compose.yml, with its own project name and ports, and docker commands on it.

use std::collections::BTreeSet;
use std::io;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use local::Service;
use serde_json::Value;
use testkit::eventually;
use tokio::process::Command;
use tokio::time::{Instant, timeout};

/// Longest time of the build, without cached images and on two busy cores. It stops a build that hangs.
const BUILD_WITHIN: Duration = Duration::from_mins(40);
/// Longest time until the stack is healthy: ten times the time on an idle machine. PostgreSQL creates its data directory
/// and both schemas are migrated.
const UP_WITHIN: Duration = Duration::from_mins(3);
/// Longest time of any other command. `docker stop` may take the 20 s of a service's shutdown.
const COMMAND_WITHIN: Duration = Duration::from_mins(1);

/// Shell script that takes the stack down.
///
/// It waits until this process closes its end of the pipe. That happens when the process ends, for any reason. It first
/// unpauses paused containers, because docker cannot stop them.
const TEARDOWN: &str = r#"
cat >/dev/null
docker ps --quiet --filter "label=com.docker.compose.project=$PROJECT" --filter status=paused | xargs -r docker unpause
exec "$@" down --volumes --remove-orphans --timeout 5
"#;

/// A running stack. Dropping it removes containers, networks and volumes.
#[derive(Debug)]
pub(crate) struct Stack {
    /// `docker compose` or `docker-compose`, with the options for project and file.
    compose: Vec<String>,
    project: String,
    directory: PathBuf,
    ports: [u16; 4],
    teardown: Child,
}

/// Port variables of the compose file, in the order of `Stack::ports`.
const PORT_VARIABLES: [&str; 4] = [
    "MAINSTAY_ORDER_PORT",
    "MAINSTAY_ORDER_OPS_PORT",
    "MAINSTAY_INVENTORY_PORT",
    "MAINSTAY_INVENTORY_OPS_PORT",
];

impl Stack {
    /// Builds the missing images, starts the stack and waits until both services are healthy.
    pub(crate) async fn up() -> Self {
        let began = Instant::now();
        let stack =
            Self::prepare().await.unwrap_or_else(|error| panic!("preparing the stack failed: {error:#}"));
        stack.run(&stack.compose, &["build"], BUILD_WITHIN).await.unwrap();
        println!("the images are built after {} s", began.elapsed().as_secs());
        if let Err(error) = stack.run(&stack.compose, &["up", "--detach"], UP_WITHIN).await {
            stack.print_logs().await;
            panic!("starting the stack failed: {error:#}");
        }
        for service in Service::BOTH {
            stack.healthy(service.name()).await;
        }
        println!("{} is healthy after {} s", stack.project, began.elapsed().as_secs());
        stack
    }

    async fn prepare() -> anyhow::Result<Self> {
        let directory =
            Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("finding the workspace")?.to_owned();
        let plugin = Command::new("docker").args(["compose", "version"]).output().await;
        let plugin = plugin.is_ok_and(|output| output.status.success());
        let tool: &[&str] = if plugin { &["docker", "compose"] } else { &["docker-compose"] };
        let mut ports = BTreeSet::new();
        while ports.len() < 4 {
            ports.insert(local::ports::free()?);
        }
        let ports: Vec<_> = ports.into_iter().collect();
        let project = format!("mainstay-test-{}", std::process::id());
        let file = directory.join("docker-compose.yml");
        let options = [
            "--project-name",
            &project,
            "--file",
            file.to_str().context("the path of the workspace is not UTF-8")?,
        ];
        let compose: Vec<String> = [tool, &options].concat().into_iter().map(str::to_owned).collect();
        let teardown = std::process::Command::new("sh")
            .args(["-c", TEARDOWN, "teardown"])
            .args(&compose)
            .env("PROJECT", &project)
            .current_dir(&directory)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // Its own process group, so that Ctrl-C on the test does not stop it.
            .process_group(0)
            .spawn()
            .context("starting the teardown script")?;
        let ports = ports.try_into().ok().context("drawing four ports")?;
        Ok(Self { compose, project, directory, ports, teardown })
    }

    /// URL of a service's public listener.
    pub(crate) fn url(&self, service: Service) -> String {
        let port = match service {
            Service::Order => self.ports[0],
            Service::Inventory => self.ports[2],
        };
        format!("http://127.0.0.1:{port}")
    }

    /// URL of a service's operations listener.
    pub(crate) fn ops_url(&self, service: Service) -> String {
        let port = match service {
            Service::Order => self.ports[1],
            Service::Inventory => self.ports[3],
        };
        format!("http://127.0.0.1:{port}")
    }

    /// The published ports.
    pub(crate) fn ports(&self) -> BTreeSet<u16> {
        self.ports.into_iter().collect()
    }

    /// Runs a docker compose command and returns its output.
    pub(crate) async fn compose(&self, arguments: &[&str]) -> anyhow::Result<String> {
        self.run(&self.compose, arguments, COMMAND_WITHIN).await
    }

    /// Runs a docker command and returns its output.
    pub(crate) async fn docker(&self, arguments: &[&str]) -> anyhow::Result<String> {
        self.run(&["docker".to_owned()], arguments, COMMAND_WITHIN).await
    }

    async fn run(&self, tool: &[String], arguments: &[&str], within: Duration) -> anyhow::Result<String> {
        let line = format!("{} {}", tool[0], arguments.join(" "));
        let mut command = Command::new(&tool[0]);
        command.args(&tool[1..]).args(arguments).current_dir(&self.directory);
        command.envs(PORT_VARIABLES.into_iter().zip(self.ports.map(|port| port.to_string())));
        // The `dev` profile builds faster. The tag keeps the test's images apart from released ones.
        command.envs([("MAINSTAY_PROFILE", "dev"), ("MAINSTAY_TAG", "test")]);
        command.stdin(Stdio::null()).kill_on_drop(true);
        let output = timeout(within, command.output()).await;
        let output = output.with_context(|| format!("{line:?} did not end within {within:?}"))?;
        let output = output.with_context(|| format!("starting {line:?} failed"))?;
        let [stdout, stderr] = [output.stdout, output.stderr].map(String::from_utf8);
        let stdout = stdout.context("the output of docker is not UTF-8")?;
        if output.status.success() {
            return Ok(stdout);
        }
        bail!("{line:?} ended with {}\n{stdout}{}", output.status, stderr.unwrap_or_default())
    }

    /// Id of a service's container, running or not. It is found by labels, because the names of containers differ between
    /// versions of compose.
    pub(crate) async fn container(&self, service: &str) -> String {
        let project = format!("label=com.docker.compose.project={}", self.project);
        let service_label = format!("label=com.docker.compose.service={service}");
        let filters = ["--filter", &project, "--filter", &service_label];
        let ids = self.docker(&[&["ps", "--all", "--quiet", "--no-trunc"][..], &filters].concat()).await;
        let ids = ids.unwrap();
        let mut ids = ids.lines();
        let (Some(id), None) = (ids.next(), ids.next()) else {
            panic!("{service} does not have exactly one container")
        };
        id.to_owned()
    }

    /// Every container of the project: its service and the output of `docker inspect`.
    pub(crate) async fn containers(&self) -> Vec<(String, Value)> {
        let project = format!("label=com.docker.compose.project={}", self.project);
        let ids = self.docker(&["ps", "--all", "--quiet", "--filter", &project]).await.unwrap();
        let inspect: Vec<_> = ["inspect"].into_iter().chain(ids.lines()).collect();
        let inspected: Vec<Value> = serde_json::from_str(&self.docker(&inspect).await.unwrap()).unwrap();
        let name = |container: &Value| {
            let service = container["Config"]["Labels"]["com.docker.compose.service"].as_str();
            service.expect("compose labels its containers").to_owned()
        };
        inspected.into_iter().map(|container| (name(&container), container)).collect()
    }

    /// The output of `docker inspect` for a service's container.
    pub(crate) async fn inspect(&self, service: &str) -> Value {
        let inspected = self.docker(&["inspect", &self.container(service).await]).await.unwrap();
        serde_json::from_str::<Value>(&inspected).unwrap()[0].take()
    }

    /// Runs a shell command in a service's running container.
    pub(crate) async fn shell(&self, service: &str, line: &str) -> anyhow::Result<String> {
        self.docker(&["exec", &self.container(service).await, "sh", "-c", line]).await
    }

    /// Waits until docker reports a service's container as healthy.
    pub(crate) async fn healthy(&self, service: &str) {
        eventually(&format!("{service} is healthy"), UP_WITHIN, || async {
            let health = self.inspect(service).await["State"]["Health"]["Status"].take();
            ensure!(health == "healthy", "it is {health}");
            Ok(())
        })
        .await;
    }

    /// Prints the last log lines of the containers, after a failure.
    pub(crate) async fn print_logs(&self) {
        match self.compose(&["logs", "--no-color", "--tail=20"]).await {
            Ok(logs) => eprintln!("{logs}"),
            Err(error) => eprintln!("{error:#}"),
        }
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        drop(self.teardown.stdin.take());
        let ended: io::Result<_> = self.teardown.wait();
        match ended {
            Ok(status) if status.success() => {}
            ended => eprintln!("taking down {} failed: {ended:?}", self.project),
        }
    }
}
