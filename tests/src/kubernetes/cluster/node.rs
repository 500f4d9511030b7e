//! A node: a network and a mount namespace, held by a process that does nothing else, and in them containerd, the kubelet and kube-proxy.

use std::{
    fs::{self, File},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context, Result, ensure};

use super::{
    plan::{Cni, Family, NodePlan},
    settings::{self, CONTAINERD_SOCKET, HOME},
};
use crate::{
    bench::{Netns, Run, cgroups, wait_for},
    process::Process,
};

/// Where Debian's package containernetworking-plugins puts them.
const CNI_PLUGINS: &str = "/usr/lib/cni";
/// containerd starts in under a second; the machine may be busy with builds.
const START_GUARD: Duration = Duration::from_secs(60);
/// How kube-proxy says that its rules stand.
const PROXY_HEALTH: &str = "127.0.0.1:10256";

/// A node of a cluster.
#[derive(Debug)]
pub struct Node {
    /// Its name as a Kubernetes Node.
    pub name: String,
    /// Its network namespace.
    pub netns: Netns,
    /// Its address on the fabric.
    pub v4: Ipv4Addr,
    /// Its address on the fabric; only with two families.
    pub v6: Option<Ipv6Addr>,
    /// Its logs and settings, as the machine sees them.
    dir: PathBuf,
    /// Holds the mount namespace while nothing else runs.
    holder: Process,
    containerd: Option<Process>,
    kubelet: Option<Process>,
    proxy: Option<Process>,
}

/// What all nodes of a cluster share.
#[derive(Clone, Copy, Debug)]
pub(super) struct Common<'a> {
    pub(super) run: &'a Run,
    pub(super) cni: Cni,
    /// The folder with `weft-kube`.
    pub(super) programs: &'a Path,
}

impl Node {
    /// Makes the node's world and starts containerd, which needs no API server.
    ///
    /// # Errors
    /// If a Debian package is missing, or something does not start.
    pub(super) fn start(common: Common<'_>, plan: &NodePlan, netns: Netns) -> Result<Self> {
        let dir = common.run.dir().join(&plan.name);
        write_settings(common, plan, &dir)?;
        cgroups::create(&cgroup(common.run, &plan.name))?;
        let holder = hold(&netns, &dir, common.programs)?;
        let mut node = Self {
            name: plan.name.clone(),
            netns,
            v4: plan.v4,
            v6: plan.v6,
            dir,
            holder,
            containerd: None,
            kubelet: None,
            proxy: None,
        };
        node.start_containerd()?;
        Ok(node)
    }

    /// A command in the node's network and mount namespaces; its paths are as the node sees them.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command
            .arg(format!("--mount=/proc/{}/ns/mnt", self.holder.pid()))
            .arg(format!("--net={}", self.netns.path().display()))
            .arg("--")
            .arg(program);
        command
    }

    /// Its addresses, IPv4 first.
    pub fn ips(&self) -> Vec<IpAddr> {
        [IpAddr::from(self.v4)]
            .into_iter()
            .chain(self.v6.map(IpAddr::from))
            .collect()
    }

    /// The folder of its logs: `kubelet.log`, `containerd.log`, `kube-proxy.log`.
    pub fn logs(&self) -> &Path {
        &self.dir
    }

    /// Imports an image archive for pods.
    ///
    /// # Errors
    /// If the file is no archive of an image.
    pub fn load(&self, archive: &Path) -> Result<()> {
        let file = File::open(archive).with_context(|| format!("the image archive {}", archive.display()))?;
        let mut import = self.command("ctr");
        // by its standard input: the node may not see the path
        import.args([
            "--address",
            CONTAINERD_SOCKET,
            "--namespace",
            "k8s.io",
            "images",
            "import",
        ]);
        let done = import.args(["--snapshotter", "native", "-"]).stdin(file).output();
        let done = done.context("ctr cannot be started")?;
        let said = String::from_utf8_lossy(&done.stderr);
        ensure!(
            done.status.success(),
            "importing {} on {}: {}",
            archive.display(),
            self.name,
            said.trim()
        );
        Ok(())
    }

    /// Starts containerd and waits until it answers. Containers that outlived the last one are taken over.
    ///
    /// # Errors
    /// If it does not.
    pub fn start_containerd(&mut self) -> Result<()> {
        let mut command = self.command("containerd");
        command.args(["--config", &format!("{HOME}/containerd.toml")]);
        self.containerd = Some(Process::start(command, &self.dir.join("containerd.log"))?);
        wait_for("containerd", START_GUARD, || {
            let mut ask = self.command("ctr");
            let done = ask.args(["--address", CONTAINERD_SOCKET, "version"]).output()?;
            Ok(done.status.success().then_some(()))
        })
        .with_context(|| format!("see {}", self.dir.join("containerd.log").display()))
    }

    /// Starts the kubelet and kube-proxy, and does not wait for them.
    ///
    /// # Errors
    /// If one cannot be started.
    pub fn start_services(&mut self, family: Family) -> Result<()> {
        let ips: Vec<_> = self.ips().iter().map(ToString::to_string).collect();
        let name = self.name.clone();
        let kubelet = [
            &format!("--config={HOME}/kubelet.json"),
            "--root-dir=/var/lib/kubelet",
            "--cert-dir=/var/lib/kubelet/pki",
            &format!("--node-ip={}", ips.join(",")),
        ];
        let proxy = [
            "--proxy-mode=nftables",
            &format!("--cluster-cidr={}", family.pod_ranges()),
            // the sizes of these tables are the machine's, not the node's
            "--conntrack-max-per-core=0",
            "--conntrack-min=0",
            &format!("--healthz-bind-address={PROXY_HEALTH}"),
        ];
        let start = |part: &str, args: &[&str]| {
            let mut command = self.command(&format!("{HOME}/programs/weft-kube"));
            command.arg(part).args(args).args([
                format!("--hostname-override={name}"),
                format!("--kubeconfig={HOME}/kubeconfig"),
            ]);
            Process::start(command, &self.dir.join(format!("{part}.log")))
        };
        (self.kubelet, self.proxy) = (Some(start("kubelet", &kubelet)?), Some(start("kube-proxy", &proxy)?));
        Ok(())
    }

    /// Kills the kubelet and kube-proxy. Pods run on.
    pub fn stop_services(&mut self) {
        self.kubelet = None;
        self.proxy = None;
    }

    /// Kills containerd. Containers run on.
    pub fn stop_containerd(&mut self) {
        self.containerd = None;
    }

    /// Waits until kube-proxy has written its rules.
    ///
    /// # Errors
    /// If it does not.
    pub(super) fn wait_for_proxy(&self) -> Result<()> {
        let url = format!("http://{PROXY_HEALTH}/healthz");
        wait_for("kube-proxy", START_GUARD, || {
            self.netns
                .run(
                    "curl",
                    &["--silent", "--fail", "--noproxy", "*", "--max-time", "5", &url],
                )
                .map(Some)
        })
        .map(drop)
        .with_context(|| format!("see {}", self.dir.join("kube-proxy.log").display()))
    }
}

/// The cgroup of a node's pods.
fn cgroup(run: &Run, name: &str) -> PathBuf {
    cgroups::of_run(run.id()).join(name)
}

/// Writes what becomes the node's [`HOME`].
fn write_settings(common: Common<'_>, plan: &NodePlan, dir: &Path) -> Result<()> {
    let settings = dir.join("settings");
    let plugins = settings.join("cni/bin");
    for folder in [&plugins, &settings.join("cni/net.d"), &settings.join("programs")] {
        fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    }
    // a folder of links: who installs a plugin on this node does not write among Debian's
    let installed = fs::read_dir(CNI_PLUGINS)
        .with_context(|| format!("{CNI_PLUGINS} of the package containernetworking-plugins"))?;
    for plugin in installed {
        let plugin = plugin?;
        symlink(plugin.path(), plugins.join(plugin.file_name()))?;
    }
    let resolver = format!("nameserver {}\n", settings::DNS_SERVICE);
    for (name, text) in [
        ("containerd.toml", settings::containerd()),
        ("kubelet.json", settings::kubelet(&cgroup(common.run, &plan.name))),
        ("cni/net.d/10-pods.conflist", settings::cni(common.cni, plan)),
        ("resolv.conf", resolver),
    ] {
        fs::write(settings.join(name), text).with_context(|| format!("{name} of {}", plan.name))?;
    }
    Ok(())
}

/// Starts the process that makes and holds the node's mount namespace.
fn hold(netns: &Netns, dir: &Path, programs: &Path) -> Result<Process> {
    let mut command = netns.command("unshare");
    command
        .args([
            "--mount",
            "--propagation",
            "private",
            "--",
            "sh",
            "-c",
            include_str!("world.sh"),
            "weft-node",
        ])
        .arg(dir)
        .arg(programs);
    let mut holder = Process::start(command, &dir.join("world.log"))?;
    wait_for("the node's own view of the machine's files", START_GUARD, || {
        if holder.output().lines().any(|line| line == "ready") {
            return Ok(Some(Ok(())));
        }
        Ok(holder.exited()?.map(Err))
    })?
    .map_err(|status| anyhow::anyhow!("it ended with {status}: {}", holder.output().trim()))?;
    Ok(holder)
}
