//! Runs `mesh-daemon` on a node of the bench and asks it what it sees.

use std::{
    net::SocketAddr,
    path::PathBuf,
    process::{Command, Output},
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::Signal;

use crate::{
    announce::Announce,
    bench::{Bench, Node, shell, wait_for},
    client,
    metrics::Metrics,
    process::{Process, binary},
};

/// Requests by source, destination and code.
pub const REQUESTS: &str = "weft_requests_total";
/// Duration of requests, in seconds.
pub const DURATION: &str = "weft_request_duration_seconds";
/// Verdicts of the kernel half, by reason: the names of `mesh_common::counter`.
pub const DECISIONS: &str = "weft_capture_decisions_total";
/// Where `/metrics` is served, on each node's own loopback.
pub const METRICS_ADDR: &str = "127.0.0.1:9490";
/// Where `/readyz` is served, on each node's own loopback.
pub const HEALTH_ADDR: &str = "127.0.0.1:9491";
/// Guard of a wait that ends in milliseconds unless something hangs.
pub const HANG_GUARD: Duration = Duration::from_secs(30);
/// Workers of each daemon unless a test says otherwise: the spread over endpoints may differ by as many.
pub const WORKERS: u32 = 2;

/// What a daemon is started with.
#[derive(Clone, Debug)]
pub struct DaemonOptions {
    /// `--attach`.
    pub attach: String,
    /// `--workers`.
    pub workers: u32,
    /// Further arguments.
    pub extra: Vec<String>,
    /// What runs the daemon, such as `setpriv` with its arguments; nothing for itself.
    pub wrapper: Vec<String>,
}

impl Default for DaemonOptions {
    fn default() -> Self {
        let attach = std::env::var("WEFT_TEST_ATTACH").unwrap_or_else(|_| "auto".to_owned());
        Self {
            attach,
            workers: WORKERS,
            extra: Vec::new(),
            wrapper: Vec::new(),
        }
    }
}

/// A running daemon. Dropping it kills it; capture stays attached, as it does on a node.
#[derive(Debug)]
pub struct Daemon {
    /// Its process.
    pub process: Process,
    node: Node,
    admin_socket: PathBuf,
}

impl Daemon {
    /// Starts it and waits until it is ready.
    ///
    /// # Errors
    /// If it ends, or is not ready within [`HANG_GUARD`].
    pub fn start(bench: &Bench, node: usize, objects: &impl Announce, options: &DaemonOptions) -> Result<Self> {
        let mut daemon = Self::spawn(bench, node, objects, options)?;
        daemon.wait_ready()?;
        Ok(daemon)
    }

    /// Starts it and does not wait.
    ///
    /// # Errors
    /// If it was not built.
    pub fn spawn(bench: &Bench, node: usize, objects: &impl Announce, options: &DaemonOptions) -> Result<Self> {
        let command = command(bench, node, objects, options)?;
        let node = bench.nodes[node].clone();
        let process = Process::start(command, &log(bench, &node))?;
        let admin_socket = admin_socket(bench, &node);
        Ok(Self {
            process,
            node,
            admin_socket,
        })
    }

    /// Waits until `/readyz` says yes.
    ///
    /// # Errors
    /// If it ends or does not get ready.
    pub fn wait_ready(&mut self) -> Result<()> {
        let ready = wait_for("readiness", HANG_GUARD, || {
            if let Some(status) = self.process.exited()? {
                return Ok(Some(Err(status)));
            }
            Ok(self
                .get(HEALTH_ADDR, "/readyz")
                .ok()
                .filter(|(code, _)| *code == 200)
                .map(Ok))
        });
        match ready {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(status)) => bail!(
                "the daemon of {} ended with {status}: {}",
                self.node.name,
                self.process.output()
            ),
            Err(error) => Err(error.context(format!("daemon of {}: {}", self.node.name, self.process.output()))),
        }
    }

    /// What `/metrics` says now.
    ///
    /// # Errors
    /// If it does not answer, or not in the text format.
    pub fn metrics(&self) -> Result<Metrics> {
        let (code, body) = self.get(METRICS_ADDR, "/metrics")?;
        ensure!(code == 200, "/metrics answered {code}");
        Metrics::parse(&body)
    }

    /// Waits until the metrics satisfy a condition.
    ///
    /// # Errors
    /// If they do not within [`HANG_GUARD`].
    pub fn wait_metrics(&self, what: &str, mut condition: impl FnMut(&Metrics) -> bool) -> Result<Metrics> {
        wait_for(what, HANG_GUARD, || {
            Ok(Some(self.metrics()?).filter(|metrics| condition(metrics)))
        })
    }

    /// Asks one of its node-local endpoints.
    ///
    /// # Errors
    /// If nothing answers.
    pub fn get(&self, addr: &str, path: &str) -> Result<(u16, String)> {
        let addr: SocketAddr = addr.parse()?;
        let answer = client::once(&self.node.netns, client::Version::Http1, addr, path)?;
        Ok((answer.status, String::from_utf8_lossy(&answer.body).into_owned()))
    }

    /// What it knows and acts on, as its admin socket shows it to people.
    ///
    /// # Errors
    /// If it does not answer.
    pub fn snapshot(&self) -> Result<String> {
        let args = ["--silent", "--fail", "--unix-socket"];
        let mut curl = Command::new("curl");
        curl.args(args).arg(&self.admin_socket).arg("http://weft/snapshot");
        shell::output(&mut curl, "")
    }

    /// Asks it as a person does: `mesh-daemon` with these arguments, and its socket.
    ///
    /// # Errors
    /// If the program was not built.
    pub fn look(&self, arguments: &[&str]) -> Result<Output> {
        Ok(self.question(arguments)?.output()?)
    }

    /// The command that asks it.
    ///
    /// # Errors
    /// If the program was not built.
    pub fn question(&self, arguments: &[&str]) -> Result<Command> {
        let mut command = self.node.netns.command(binary("mesh-daemon")?);
        command.args(arguments).arg("--admin-socket").arg(&self.admin_socket);
        Ok(command)
    }

    /// Ends it as Kubernetes does, and waits.
    ///
    /// # Errors
    /// If it does not end within [`HANG_GUARD`].
    pub fn terminate(&mut self) -> Result<()> {
        self.process.signal(Signal::SIGTERM);
        let status = self.process.wait(HANG_GUARD)?;
        ensure!(
            status.success(),
            "after SIGTERM the daemon ended with {status}: {}",
            self.process.output()
        );
        Ok(())
    }
}

/// The command that runs a daemon.
///
/// # Errors
/// If it was not built.
pub fn command(bench: &Bench, node: usize, objects: &impl Announce, options: &DaemonOptions) -> Result<Command> {
    let DaemonOptions {
        attach,
        workers,
        extra,
        wrapper,
    } = options;
    let program = binary("mesh-daemon")?;
    let own = &bench.nodes[node];
    let mut command = match wrapper.split_first() {
        None => own.netns.command(program),
        Some((first, rest)) => {
            let mut command = own.netns.command(first);
            command.args(rest).arg(program);
            command
        }
    };
    command
        .args(objects.daemon_args(&own.name)?)
        .args(["--node-name", &own.name])
        .arg("--bpffs-dir")
        .arg(bench.pin_dir(node))
        .arg("--admin-socket")
        .arg(admin_socket(bench, own))
        .args([
            "--attach",
            attach,
            "--metrics-addr",
            METRICS_ADDR,
            "--health-addr",
            HEALTH_ADDR,
        ])
        .args(["--workers", &workers.to_string()])
        .args(extra);
    Ok(command)
}

/// Runs `mesh-daemon detach` on a node and hands back what it said.
///
/// # Errors
/// If it fails.
pub fn detach(bench: &Bench, node: usize) -> Result<String> {
    let mut command = bench.nodes[node].netns.command(binary("mesh-daemon")?);
    command.arg("detach").arg("--bpffs-dir").arg(bench.pin_dir(node));
    shell::output(&mut command, "").context("mesh-daemon detach")
}

fn admin_socket(bench: &Bench, node: &Node) -> PathBuf {
    bench.dir().join(format!("{}.sock", node.name))
}

fn log(bench: &Bench, node: &Node) -> PathBuf {
    bench.dir().join(format!("daemon-{}.log", node.name))
}
