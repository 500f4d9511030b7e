//! One run of the suite: a cluster of two nodes with the API's CRDs and Weft, the suite's program against it, and what both say afterwards.

use std::{
    fmt,
    fs::{self, File},
    io::{BufRead, BufReader, Write},
    os::unix::process::{CommandExt, ExitStatusExt},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Instant,
};

use anyhow::{Context, Result, ensure};

use super::{
    Column, Options,
    report::Report,
    results::{self, Ended, ROOT},
};
use crate::{
    client::{self, Version},
    daemon::METRICS_ADDR,
    kubernetes::cluster::{Cluster, ClusterOptions},
    manifests::CAPTURE_LABEL,
    metrics::Metrics,
    shop::{captured_connections, to_count},
};

/// The suite's program, and the folder of CRDs, in the build.
const PROGRAM: &str = "gateway-conformance";
const CRDS: &str = "crds";
/// The profiles for meshes; the suite has no others of them.
const PROFILES: &str = "MESH-HTTP,MESH-GRPC";
/// Weft has no Gateways, and in a mesh backends of other namespaces need no grant.
const EXEMPT: &str = "Gateway,ReferenceGrant";
/// A guard of the whole run against hangs: with every test waiting for its own timeout, half an hour.
const SUITE_GUARD: &str = "90m";
/// A guard of what takes seconds, as kubectl takes it; the machine may be busy.
const GUARD: &str = "--timeout=120s";
/// The suite writes no report for a nameless implementation. Whoever publishes one says more.
const NOT_SAID: &str = "unpublished";
/// Where the daemons run.
const NAMESPACE: &str = "--namespace=weft-system";

/// What a run came to.
#[derive(Clone, Debug)]
pub(super) struct Run {
    /// The suite's tests, in the order in which they ended.
    pub(super) ended: Vec<Ended>,
    pub(super) report: Report,
    /// Connections that the kernel half handed to a daemon.
    pub(super) connections: u64,
}

impl Run {
    /// Checks that the pods were captured, or not, as the column says.
    ///
    /// # Errors
    /// If the daemons' own count says otherwise: the column would show something else than its head says.
    pub(super) fn is_of(&self, column: Column) -> Result<()> {
        let fits = (self.connections > 0) == (column == Column::Captured);
        ensure!(
            fits,
            "the pods should have been {column}, and the daemons carried {} connections",
            self.connections
        );
        Ok(())
    }
}

/// The suite did not end by itself: after a Ctrl-C, it goes with the cluster, and the cluster's logs tell nothing.
#[derive(Debug)]
struct Killed;

impl fmt::Display for Killed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the suite was killed before its end")
    }
}

impl std::error::Error for Killed {}

/// Sets a cluster up, runs the suite on it, and removes it.
///
/// # Errors
/// If the cluster does not come up, the suite gives no report, or something of the cluster is left.
pub(super) fn run(options: &Options, column: Column) -> Result<Run> {
    println!("\n{column}:");
    let cluster = Cluster::up(&ClusterOptions {
        images: options.images.clone(),
        say: |step| println!("  {step}"),
        ..ClusterOptions::default()
    })?;
    let place = Place {
        options,
        column,
        cluster: &cluster,
    };
    let run = place.install().and_then(|()| place.conform());
    place.keep_daemon_logs();
    if run.as_ref().is_err_and(|error| !error.is::<Killed>()) {
        cluster.show_logs();
    }
    let down = cluster.down();
    // what went wrong first is told
    let run = run?;
    down.map(|()| run)
}

/// Where a run happens.
#[derive(Clone, Copy)]
struct Place<'a> {
    options: &'a Options,
    column: Column,
    cluster: &'a Cluster,
}

impl Place<'_> {
    /// Installs the CRDs first, so that the daemons find them at their start, and then Weft.
    fn install(self) -> Result<()> {
        let crds = self.options.suite.join(CRDS).display().to_string();
        self.kubectl(&["apply", "--server-side", "--kustomize", &crds])?;
        self.kubectl(&["wait", GUARD, "--for=condition=Established", "crd", "--all"])?;
        let weft = checkout().join("deploy/daemonset").display().to_string();
        self.kubectl(&["apply", "--kustomize", &weft])?;
        self.kubectl(&[NAMESPACE, "rollout", "status", "daemonset/mesh-daemon", GUARD])?;
        println!("  the Gateway API's CRDs and Weft are installed");
        Ok(())
    }

    fn conform(self) -> Result<Run> {
        let before = self.connections()?;
        let report = self.file("yaml");
        // one of an earlier run must not pass for this one's
        let _ = fs::remove_file(&report);
        let ended = self.run_suite(&report)?;
        let see = format!("see {}", self.file("log").display());
        // its own set-up failed, or it does not know the test that it was asked for
        ensure!(!ended.is_empty(), "the suite came to no test; {see}");
        let yaml = fs::read_to_string(&report)
            .with_context(|| format!("the suite wrote no report after {} tests; {see}", ended.len()))?;
        let report = Report::parse(&yaml)?;
        report.agrees_with(&ended)?;
        Ok(Run {
            ended,
            report,
            connections: self.connections()?.saturating_sub(before),
        })
    }

    /// Runs the suite to its end, keeps what it prints, and tells each test that ran as it ends.
    fn run_suite(self, report: &Path) -> Result<Vec<Ended>> {
        let path = self.file("log");
        let mut log = File::create(&path).with_context(|| path.display().to_string())?;
        let mut child = self
            .suite(report)?
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            // a panic; both are written to the same open file, one after the other
            .stderr(log.try_clone()?)
            // Ctrl-C is for the one who started us: the end of the cluster is the end of all that runs in it
            .process_group(0)
            .spawn()
            .context("the suite cannot be started")?;
        let started = Instant::now();
        let mut output = BufReader::new(child.stdout.take().context("a piped child has no standard output")?);
        let (mut ended, mut line) = (Vec::new(), Vec::new());
        while output.read_until(b'\n', &mut line)? > 0 {
            let text = String::from_utf8_lossy(&line);
            log.write_all(results::unmarked(&text).as_bytes())?;
            if let Some(test) = results::ended(&text) {
                tell(started, &test);
                ended.push(test);
            }
            line.clear();
        }
        // that tests failed is a result; whether it came to an end, its report says
        match child.wait()?.signal() {
            Some(_) => Err(Killed.into()),
            None => Ok(ended),
        }
    }

    /// The suite's program, in the first node's network, from which it reaches the API server.
    fn suite(self, report: &Path) -> Result<Command> {
        let node = self.cluster.nodes().first().context("a cluster without nodes")?;
        let mut suite = node.netns.command(self.options.suite.join(PROGRAM));
        suite
            .env("KUBECONFIG", self.cluster.kubeconfig())
            // the machine's proxy, if it has one, is not the cluster's
            .env("NO_PROXY", "*")
            .arg(format!("-test.run=^{ROOT}$"))
            .arg("-test.v=test2json")
            .arg(format!("-test.timeout={SUITE_GUARD}"))
            .arg(format!("--conformance-profiles={PROFILES}"))
            .arg("--all-features")
            .arg(format!("--exempt-features={EXEMPT}"))
            // they go with the cluster
            .arg("--cleanup-base-resources=false")
            .arg(format!("--report-output={}", report.display()))
            .args(["--organization=weft", "--project=weft"])
            .args(["url", "contact"].map(|field| format!("--{field}={NOT_SAID}")))
            .arg(format!("--version=v{}", env!("CARGO_PKG_VERSION")));
        if self.column == Column::Captured {
            suite.arg(format!("--namespace-labels={CAPTURE_LABEL}=enabled"));
        }
        if let Some(test) = &self.options.test {
            suite.arg(format!("--run-test={test}"));
        }
        Ok(suite)
    }

    /// Connections that all daemons carried since their start, each asked on its own node's loopback.
    fn connections(self) -> Result<u64> {
        let addr = METRICS_ADDR.parse()?;
        self.cluster.nodes().iter().try_fold(0, |sum, node| {
            let answer = client::once(&node.netns, Version::Http1, addr, "/metrics")
                .with_context(|| format!("the metrics of the daemon on {}", node.name))?;
            let metrics = Metrics::parse(&answer.text())?;
            Ok(sum + to_count(captured_connections(&metrics)))
        })
    }

    /// Keeps what the daemons said. What cannot be had is not the failure that is told.
    fn keep_daemon_logs(self) {
        let selector = "--selector=app.kubernetes.io/name=mesh-daemon";
        let logs = self.kubectl(&[NAMESPACE, "logs", selector, "--tail=-1", "--prefix"]);
        let _ = fs::write(
            self.file("daemons.log"),
            logs.unwrap_or_else(|error| format!("{error:#}\n")),
        );
    }

    fn kubectl(self, args: &[&str]) -> Result<String> {
        self.cluster.kubectl(args)
    }

    /// A file of this run that stays.
    fn file(self, extension: &str) -> PathBuf {
        let name = format!("{}.{extension}", self.column.file_name());
        self.options.results.join(name)
    }
}

/// A line for a test that ran; the suite skips a hundred.
fn tell(started: Instant, test: &Ended) {
    if test.outcome != results::Outcome::Skipped {
        let since = started.elapsed().as_secs_f64();
        println!("  {since:6.1} s  {}: {}", test.name, test.outcome.word());
    }
}

fn checkout() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_owned()
}
