//! CoreDNS as a process on the first node, and the Service `kube-dns` by which pods find it.

use std::{fs, path::Path, time::Duration};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::{node::Node, settings::DNS_SERVICE};
use crate::{
    bench::{Netns, wait_for},
    kubernetes::ControlPlane,
    process::Process,
};

/// Where CoreDNS says that it has read all Services.
const READY: &str = "127.0.0.1:8181";
/// It is ready within a second; the machine may be busy with builds.
const START_GUARD: Duration = Duration::from_secs(60);

/// Starts CoreDNS in a node's network namespace.
///
/// # Errors
/// If it cannot be started.
pub(super) fn start(netns: &Netns, plane: &ControlPlane, dir: &Path) -> Result<Process> {
    fs::create_dir_all(dir)?;
    let corefile = dir.join("Corefile");
    let zones = "cluster.local in-addr.arpa ip6.arpa";
    let text = format!(
        ".:53 {{\n  errors\n  ready {READY}\n  kubernetes {zones} {{\n    kubeconfig {}\n    pods insecure\n    ttl 5\n  }}\n}}\n",
        plane.kubeconfig().display()
    );
    fs::write(&corefile, text).with_context(|| corefile.display().to_string())?;
    let mut command = netns.command(plane.binaries().coredns());
    command.arg("-conf").arg(&corefile);
    Process::start(command, &dir.join("coredns.log"))
}

/// Waits until it knows all Services.
///
/// # Errors
/// If it does not within the guard.
pub(super) fn wait_until_ready(netns: &Netns) -> Result<()> {
    let url = format!("http://{READY}/ready");
    let ask = ["--silent", "--fail", "--noproxy", "*", "--max-time", "5", &url];
    wait_for("CoreDNS", START_GUARD, || netns.run("curl", &ask).map(Some)).map(drop)
}

/// The Service and its endpoint: the node's own address, since CoreDNS is no pod here.
pub(super) fn objects(node: &Node) -> [Value; 2] {
    let metadata = |name: &str, labels: Value| json!({"name": name, "namespace": "kube-system", "labels": labels});
    let ports = ["UDP", "TCP"].map(|protocol| (format!("dns-{}", protocol.to_lowercase()), protocol));
    let ports = |target| {
        ports
            .iter()
            .map(|(name, protocol)| {
                let mut port = json!({"name": name, "protocol": protocol, "port": 53});
                if let Some(target) = target {
                    port["targetPort"] = json!(target);
                }
                port
            })
            .collect::<Vec<_>>()
    };
    [
        json!({
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": metadata("kube-dns", json!({"k8s-app": "kube-dns"})),
            "spec": {"clusterIP": DNS_SERVICE, "ports": ports(Some(53))},
        }),
        json!({
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": metadata("kube-dns", json!({"kubernetes.io/service-name": "kube-dns"})),
            "addressType": "IPv4",
            "endpoints": [{"addresses": [node.v4], "conditions": {"ready": true}, "nodeName": node.name}],
            "ports": ports(None),
        }),
    ]
}
