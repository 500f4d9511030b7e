//! The ground of the measurements: one node of the bench, an API server beside it with ten thousand pods, a release build of the daemon.

use std::{
    fs,
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::Signal;
use serde_json::json;

use super::{load, objects};
use crate::{
    bench::{Bench, OUTSIDE_V4, Options},
    client,
    daemon::{HANG_GUARD, HEALTH_ADDR, METRICS_ADDR},
    kubernetes::{Components, ControlPlane, ControlPlaneOptions},
    metrics::Metrics,
    process::{Process, binary},
};

/// Ten thousand pods take the API server seconds to list, and a broken daemon for ever.
const READY_GUARD: Duration = Duration::from_secs(60);
/// Pause between two looks at `/readyz`: the figure's resolution.
const LOOK_PAUSE: Duration = Duration::from_millis(5);

/// The ground. Fields are dropped in order: the API server before the namespaces it lives in.
pub(super) struct World {
    pub(super) plane: ControlPlane,
    pub(super) bench: Bench,
}

/// A daemon that is ready.
pub(super) struct Ready {
    pub(super) process: Process,
    /// From its start to `/readyz` saying 200.
    pub(super) took: Duration,
}

impl World {
    /// Starts the API server and fills it.
    pub(super) fn open() -> Result<Self> {
        let bench = Bench::start(Options::default())?;
        let mut options = ControlPlaneOptions::new(&bench.outside, bench.dir().join("plane"), OUTSIDE_V4);
        // the objects are written as the controllers would write them; running ones would tidy them away
        options.components = Components {
            controller_manager: false,
            scheduler: false,
        };
        // the pods' ServiceAccounts do not exist
        options
            .extra_args
            .api_server
            .push("--disable-admission-plugins=ServiceAccount".to_owned());
        let plane = ControlPlane::start(options)?;
        let world = Self { plane, bench };
        let begun = Instant::now();
        let node = world.bench.nodes[0].clone();
        world.plane.with_client(move |client| async move {
            load::create_all(
                &client,
                "/api/v1/nodes",
                vec![objects::node(&node.name, "10.244.1.0/24")],
            )
            .await?;
            load::fill(&client).await
        })?;
        println!(
            "{} Services, {} endpoints, {} pods with the managedFields of their writers: written in {:.1} s",
            objects::SERVICES,
            u32::from(objects::SERVICES) * u32::from(objects::ENDPOINTS_PER_SERVICE),
            u32::from(objects::NODES) * u32::from(objects::PODS_PER_NODE),
            begun.elapsed().as_secs_f64()
        );
        Ok(world)
    }

    /// Starts the daemon of the first node and waits until it is ready.
    pub(super) fn start_daemon(&self) -> Result<Ready> {
        let node = &self.bench.nodes[0];
        let mut command = node.netns.command(binary("mesh-daemon")?);
        command
            .arg("--kubeconfig")
            .arg(self.plane.kubeconfig())
            .args([
                "--node-name",
                &node.name,
                "--workers",
                "2",
                "--metrics-addr",
                METRICS_ADDR,
                "--health-addr",
                HEALTH_ADDR,
            ])
            .arg("--bpffs-dir")
            .arg(self.bench.pin_dir(0))
            .arg("--state-dir")
            .arg(self.state_dir())
            .arg("--admin-socket")
            .arg(self.bench.dir().join("n1.sock"));
        let begun = Instant::now();
        let mut process = Process::start(command, &self.bench.dir().join("daemon.log"))?;
        while !self.get(HEALTH_ADDR, "/readyz").is_ok_and(|(code, _)| code == 200) {
            if let Some(status) = process.exited()? {
                bail!("the daemon ended with {status}: {}", process.output());
            }
            ensure!(
                begun.elapsed() < READY_GUARD,
                "not ready within {READY_GUARD:?}: {}",
                process.output()
            );
            std::thread::sleep(LOOK_PAUSE);
        }
        Ok(Ready {
            process,
            took: begun.elapsed(),
        })
    }

    /// Ends a daemon and forgets its state, so that the next one starts as the first did.
    pub(super) fn end_daemon(&self, mut ready: Ready) -> Result<()> {
        ready.process.signal(Signal::SIGTERM);
        ready.process.wait(HANG_GUARD)?;
        fs::remove_dir_all(self.state_dir()).or_else(|error| match error.kind() {
            std::io::ErrorKind::NotFound => Ok(()),
            _ => Err(error),
        })?;
        Ok(())
    }

    /// What the daemon's metrics say now.
    pub(super) fn metrics(&self) -> Result<Metrics> {
        let (code, body) = self.get(METRICS_ADDR, "/metrics")?;
        ensure!(code == 200, "/metrics answered {code}");
        Metrics::parse(&body)
    }

    /// Announces a pod of the bench to the API server, running, in a captured namespace.
    pub(super) fn announce(&self, namespace: &str, pod: &crate::bench::Pod) -> Result<()> {
        let (namespace, name, ip) = (namespace.to_owned(), pod.name.clone(), pod.v4);
        let node = self.bench.nodes[pod.node].name.clone();
        self.plane.with_client(move |client| async move {
            let object = json!({
                "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
                "spec": {"nodeName": node, "containers": [{"name": "app", "image": "none"}]}
            });
            load::create_all(&client, &format!("/api/v1/namespaces/{namespace}/pods"), vec![object]).await?;
            let status = json!({"status": {"phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}], "startTime": "2026-01-01T00:00:00Z"}});
            load::merge_patch(&client, &format!("/api/v1/namespaces/{namespace}/pods/{name}/status"), status).await
        })
    }

    fn state_dir(&self) -> PathBuf {
        self.bench.dir().join("state")
    }

    fn get(&self, addr: &str, path: &str) -> Result<(u16, String)> {
        let answer = client::once(&self.bench.nodes[0].netns, client::Version::Http1, addr.parse()?, path)?;
        Ok((answer.status, String::from_utf8_lossy(&answer.body).into_owned()))
    }
}

/// The most memory that a process ever had resident, in bytes: `VmHWM` of proc(5).
pub(super) fn peak_memory(process: &Process) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{}/status", process.pid()))?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .context("no VmHWM in /proc")?;
    let kib: u64 = line.trim().trim_end_matches("kB").trim().parse()?;
    Ok(kib * 1024)
}
