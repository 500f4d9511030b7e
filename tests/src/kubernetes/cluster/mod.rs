//! A real Kubernetes cluster on one machine: nodes are network namespaces, each with its own containerd, kubelet and kube-proxy; the control
//! plane and CoreDNS run on the first. The machine's own network, files and settings stay as they are.

mod archives;
mod dns;
mod fabric;
pub mod forward;
pub mod kept;
mod node;
mod plan;
mod settings;

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, anyhow, ensure};
use serde_json::json;

pub use archives::archive;
pub use node::Node;
pub use plan::{Cni, Family};
pub use settings::PAUSE_IMAGE;

use crate::{
    bench::{self, Netns, Run},
    kubernetes::{Binaries, ControlPlane, ControlPlaneOptions},
    process::Process,
};
use node::Common;
use plan::NodePlan;

/// How long nodes may take until they are ready, as kubectl takes it: 2 s were seen, on a machine that does nothing else.
const READY_GUARD: &str = "--timeout=120s";
/// Debian's packages that nodes need, by a program of each.
const PROGRAMS: [(&str, &str); 6] = [
    ("/usr/bin/containerd", "containerd"),
    ("/usr/sbin/runc", "runc"),
    ("/usr/lib/cni/ptp", "containernetworking-plugins"),
    ("/usr/sbin/nft", "nftables"),
    ("/usr/sbin/iptables", "iptables"),
    ("/usr/bin/curl", "curl"),
];

/// What a cluster is like.
#[derive(Clone, Debug)]
pub struct ClusterOptions {
    /// How pods are joined to their node.
    pub cni: Cni,
    /// The address families.
    pub family: Family,
    /// How many nodes, from 1.
    pub nodes: u8,
    /// The run that everything belongs to.
    pub run: Run,
    /// Archives that every node has: [`PAUSE_IMAGE`] must be in one, and what pods are to run.
    pub images: Vec<PathBuf>,
    /// Is told each step that is done.
    pub say: fn(&str),
}

impl Default for ClusterOptions {
    fn default() -> Self {
        Self {
            cni: Cni::Ptp,
            family: Family::Dual,
            nodes: 2,
            run: Run::of_this_process(),
            images: Vec::new(),
            say: |_| {},
        }
    }
}

/// A cluster. Dropping it removes everything, after showing the ends of the logs if the thread panics.
#[derive(Debug)]
pub struct Cluster {
    nodes: Vec<Node>,
    plane: ControlPlane,
    _dns: Process,
    ground: Ground,
    family: Family,
}

/// What must go at the end, however far the start came.
#[derive(Debug)]
struct Ground {
    run: Run,
}

impl Cluster {
    /// Starts everything and waits until the nodes are ready and Services and names work.
    ///
    /// # Errors
    /// If the caller is not root, a Debian package or Kubernetes' programs are missing, or a part does not start; nothing is left then.
    pub fn up(options: &ClusterOptions) -> Result<Self> {
        let ClusterOptions {
            cni,
            family,
            nodes,
            run,
            images,
            say,
        } = options;
        let plans = plan::nodes(*nodes, *family)?;
        check_programs()?;
        let binaries = Binaries::find()?;
        // from here on, everything goes if a later line fails
        let ground = Ground { run: run.clone() };
        run.begin()?;
        let namespaces = fabric::make(run, &plans, *cni)?;
        say("the nodes' namespaces are joined");
        let first = (plans.first().zip(namespaces.first())).context("a cluster without nodes")?;
        let common = Common {
            run,
            cni: *cni,
            programs: binaries.dir(),
        };
        let (plane, nodes) = std::thread::scope(|scope| {
            let plane = scope.spawn(|| {
                let plane = start_plane(run, *family, first)?;
                say("the control plane answers");
                Ok(plane)
            });
            let nodes = plans.iter().zip(&namespaces).map(|(plan, netns)| {
                scope.spawn(move || {
                    let node = Node::start(common, plan, netns.clone())?;
                    images.iter().try_for_each(|archive| node.load(archive))?;
                    say(&format!("containerd runs on {} and has the images", node.name));
                    Ok(node)
                })
            });
            // all are started before the first is waited for
            let nodes: Vec<_> = nodes.collect();
            let nodes: Result<Vec<Node>> = nodes.into_iter().map(joined).collect();
            Ok::<_, anyhow::Error>((joined(plane)?, nodes?))
        })?;
        Self::populate(ground, plane, nodes, *family, *say)
    }

    /// Makes a cluster of a control plane and containerds.
    fn populate(
        ground: Ground,
        plane: ControlPlane,
        mut nodes: Vec<Node>,
        family: Family,
        say: fn(&str),
    ) -> Result<Self> {
        let first = nodes.first().context("a cluster without nodes")?;
        let plans = plan::nodes(u8::try_from(nodes.len())?, family)?;
        let objects = plans.iter().map(settings::node).chain(dns::objects(first));
        let list = json!({"apiVersion": "v1", "kind": "List", "items": objects.collect::<Vec<_>>()});
        plane.apply(&list.to_string())?;
        let kubeconfig = plane.kubectl(&["config", "view", "--raw", "--flatten"])?;
        for node in &mut nodes {
            fs::write(node.logs().join("settings/kubeconfig"), &kubeconfig)?;
            node.start_services(family)?;
        }
        let first = nodes.first().context("a cluster without nodes")?;
        let dns = dns::start(&first.netns, &plane, &ground.run.dir().join("dns"))?;
        let cluster = Self {
            nodes,
            plane,
            _dns: dns,
            ground,
            family,
        };
        cluster.wait_until_ready()?;
        say("the nodes are ready");
        cluster.nodes.iter().try_for_each(Node::wait_for_proxy)?;
        dns::wait_until_ready(&cluster.nodes[0].netns)?;
        say("Services and their names work");
        Ok(cluster)
    }

    /// Waits until every node is ready and pods can be made.
    ///
    /// # Errors
    /// If that takes too long.
    pub fn wait_until_ready(&self) -> Result<()> {
        self.kubectl(&["wait", READY_GUARD, "--for=condition=Ready", "node", "--all"])?;
        self.kubectl(&["wait", READY_GUARD, "--for=create", "serviceaccount/default"])?;
        Ok(())
    }

    /// Node `number`, from 1.
    ///
    /// # Panics
    /// If there is no such node.
    pub fn node(&self, number: usize) -> &Node {
        &self.nodes[number - 1]
    }

    /// As [`Cluster::node`], to stop and start what runs on it.
    ///
    /// # Panics
    /// If there is no such node.
    pub fn node_mut(&mut self, number: usize) -> &mut Node {
        &mut self.nodes[number - 1]
    }

    /// All nodes.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// The address families.
    pub fn family(&self) -> Family {
        self.family
    }

    /// Runs kubectl and hands back what it printed.
    ///
    /// # Errors
    /// If it fails; the text holds what it said.
    pub fn kubectl(&self, args: &[&str]) -> Result<String> {
        self.plane.kubectl(args)
    }

    /// Runs a program in a pod's first container and hands back what it printed.
    ///
    /// # Errors
    /// If it fails; the text holds what it said.
    pub fn exec(&self, namespace: &str, pod: &str, command: &[&str]) -> Result<String> {
        self.kubectl(&[&["--namespace", namespace, "exec", pod, "--"], command].concat())
    }

    /// Applies objects, as YAML or JSON.
    ///
    /// # Errors
    /// If the API server refuses one.
    pub fn apply(&self, objects: &str) -> Result<()> {
        self.plane.apply(objects)
    }

    /// Imports an image archive on every node.
    ///
    /// # Errors
    /// If the file is no archive of an image.
    pub fn load(&self, archive: &Path) -> Result<()> {
        self.nodes.iter().try_for_each(|node| node.load(archive))
    }

    /// The control plane.
    pub fn control_plane(&self) -> &ControlPlane {
        &self.plane
    }

    /// Prints the ends of all logs, for people who look at a failure.
    pub fn show_logs(&self) {
        self.ground.show_logs();
    }

    /// The folder of logs, settings and state.
    pub fn dir(&self) -> &Path {
        self.ground.run.dir()
    }

    /// The kubeconfig of an administrator. Its server's address is one inside the first node's network namespace.
    pub fn kubeconfig(&self) -> &Path {
        self.plane.kubeconfig()
    }

    /// Lets everything live on after this process.
    pub fn keep(self) {
        self.ground.run.keep();
        // nothing of it is dropped: processes run on and files stay until the run of this name is removed
        std::mem::forget(self);
    }

    /// Removes everything.
    ///
    /// # Errors
    /// If something is left.
    pub fn down(self) -> Result<()> {
        let run = self.ground.run.clone();
        drop(self);
        ensure!(!run.exists(), "something of the cluster {} is left", run.id());
        Ok(())
    }
}

impl Ground {
    fn show_logs(&self) {
        let dirs = fs::read_dir(self.run.dir()).into_iter().flatten().flatten();
        dirs.map(|entry| entry.path())
            .filter(|path| path.is_dir())
            .for_each(|dir| bench::show_logs_in(&dir));
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.show_logs();
        }
        self.run.remove();
    }
}

fn start_plane(run: &Run, family: Family, (plan, netns): (&NodePlan, &Netns)) -> Result<ControlPlane> {
    let options = ControlPlaneOptions::new(netns, run.dir().join("control-plane"), plan.v4);
    ControlPlane::start(ControlPlaneOptions {
        dual_stack: family == Family::Dual,
        ..options
    })
}

/// What a thread of the start came to.
fn joined<T>(thread: std::thread::ScopedJoinHandle<'_, Result<T>>) -> Result<T> {
    thread
        .join()
        .map_err(|_| anyhow!("a part of the cluster's start panicked"))?
}

/// Names the Debian packages that are missing.
fn check_programs() -> Result<()> {
    let missing: Vec<_> = PROGRAMS
        .iter()
        .filter(|(program, _)| !Path::new(program).exists())
        .map(|(_, package)| *package)
        .collect();
    ensure!(
        missing.is_empty(),
        "nodes need the Debian packages {}: `cargo xtask cluster up` installs them",
        missing.join(" ")
    );
    Ok(())
}
