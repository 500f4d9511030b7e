//! What is left of a cluster that is gone: nothing.

use std::{collections::BTreeSet, fs, path::Path};

use anyhow::{Result, ensure};
use mesh_tests::{
    bench::{Netns, cgroups},
    kubernetes::cluster::{Cluster, ClusterOptions, Cni, Family},
};

use crate::{usual, web::Web, web::url};

/// What nodes write elsewhere, and the kubelet sets.
const USUAL_PATHS: [&str; 10] = [
    "/etc/cni",
    "/opt/cni",
    "/run/containerd",
    "/run/weft",
    "/run/weft-node",
    "/var/lib/cni",
    "/var/lib/containerd",
    "/var/lib/kubelet",
    "/var/log/containers",
    "/var/log/pods",
];
const USUAL_SETTINGS: [&str; 4] = [
    "vm/overcommit_memory",
    "vm/panic_on_oom",
    "kernel/panic",
    "kernel/panic_on_oops",
];

#[test]
fn nothing_is_left_of_a_cluster_with_pods() {
    told(|| goes_without_a_trace(&usual()?));
}

#[test]
fn a_cluster_with_bridges_and_one_family_works_and_goes() {
    told(|| {
        goes_without_a_trace(&ClusterOptions {
            cni: Cni::Bridge,
            family: Family::Ipv4,
            ..usual()?
        })
    });
}

fn told(story: impl FnOnce() -> Result<()>) {
    if let Err(error) = story() {
        panic!("{error:#}");
    }
}

fn goes_without_a_trace(options: &ClusterOptions) -> Result<()> {
    let machine = Machine::now();
    let run = options.run.clone();
    let families = if options.family == Family::Dual { 2 } else { 1 };
    let cluster = Cluster::up(options)?;
    let web = Web::start(&cluster, "web")?;
    let pods = web.pods()?;
    for ip in web.service_ips()? {
        for from in &pods {
            web.get(from, &url(ip, 80))?;
        }
    }
    ensure!(pods.iter().all(|pod| pod.ips.len() == families), "{pods:?}");
    let processes = processes(&cluster, run.id());
    // containerd, kubelet, kube-proxy, the holder, a shim, a sandbox and a server on each, and five of the control plane
    ensure!(
        processes.len() >= 19,
        "only {} processes are seen: {processes:?}",
        processes.len()
    );
    cluster.down()?;
    let alive: Vec<_> = processes.iter().filter(|process| process.is_alive()).collect();
    ensure!(alive.is_empty(), "processes are left: {alive:?}");
    let after = Machine::now();
    ensure!(machine == after, "the machine was {machine:?} and is {after:?}");
    nothing_is_called(run.id())
}

/// Checks that no namespace, mount or cgroup carries this name.
pub fn nothing_is_called(id: &str) -> Result<()> {
    for file in ["/proc/self/mountinfo", "/proc/net/unix"] {
        let text = fs::read_to_string(file)?;
        let line = text.lines().find(|line| line.contains(&format!("/{id}")));
        ensure!(line.is_none(), "in {file}: {line:?}");
    }
    let namespaces: Vec<_> = entries("/run/netns")
        .into_iter()
        .filter(|name| name.contains(id))
        .collect();
    ensure!(namespaces.is_empty(), "namespaces are left: {namespaces:?}");
    let folders = cgroups::processes(id)?;
    ensure!(folders.is_none(), "cgroups are left");
    Ok(())
}

/// What the nodes could have changed.
#[derive(Debug, PartialEq, Eq)]
struct Machine {
    paths: Vec<&'static str>,
    settings: Vec<String>,
}

impl Machine {
    fn now() -> Self {
        let read = |name: &&str| fs::read_to_string(Path::new("/proc/sys").join(name)).unwrap_or_default();
        Self {
            paths: USUAL_PATHS
                .into_iter()
                .filter(|path| Path::new(path).exists())
                .collect(),
            settings: USUAL_SETTINGS.iter().map(read).collect(),
        }
    }
}

/// A process, told from a later one of the same pid by its start.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Process {
    pid: i32,
    start: String,
}

impl Process {
    fn of(pid: i32) -> Option<Self> {
        let start = stat(pid)?.get(19)?.clone();
        Some(Self { pid, start })
    }

    /// Whether it runs: one that has ended and waits for its parent does not.
    fn is_alive(&self) -> bool {
        stat(self.pid).is_some_and(|fields| {
            fields.first().is_some_and(|state| state != "Z") && fields.get(19) == Some(&self.start)
        })
    }
}

/// The fields of /proc/PID/stat from the third on: the second may hold anything.
fn stat(pid: i32) -> Option<Vec<String>> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, fields) = text.rsplit_once(") ")?;
    Some(fields.split_whitespace().map(str::to_owned).collect())
}

/// All processes of a cluster: those in its nodes' namespaces, and those in its pods' cgroups.
fn processes(cluster: &Cluster, id: &str) -> BTreeSet<Process> {
    let in_nodes = cluster.nodes().iter().flat_map(|node| Netns::pids(&node.netns));
    let in_pods = cgroups::processes(id).ok().flatten().unwrap_or_default();
    in_nodes
        .map(nix::unistd::Pid::as_raw)
        .chain(in_pods)
        .filter_map(Process::of)
        .collect()
}

fn entries(dir: &str) -> Vec<String> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect()
}
