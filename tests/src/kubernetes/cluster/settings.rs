//! The settings of a node's programs, as texts: pure. Paths are as the node sees them, and so the same on every node.

use std::path::Path;

use serde_json::json;

use super::plan::{Cni, NodePlan};

/// What the sandbox of every pod runs, from the archive `pause.tar`.
pub const PAUSE_IMAGE: &str = "weft.mesh/pause:1";
/// Where a node has its own settings, CNI plugins and programs: in its own /run.
pub(super) const HOME: &str = "/run/weft-node";
/// The socket of the node's container runtime.
pub(super) const CONTAINERD_SOCKET: &str = "/run/containerd/containerd.sock";
/// Where the address of the Service kube-dns is: the tenth of the range, as everywhere.
pub(super) const DNS_SERVICE: &str = "10.96.0.10";

/// containerd's settings. Snapshots are copies, since an overlay on an overlay may be refused; cgroups are made by runc itself; and a
/// process may not have the right to lower its score for the out-of-memory killer.
pub(super) fn containerd() -> String {
    format!(
        r#"version = 2
root = "/var/lib/containerd"
state = "/run/containerd"
oom_score = 0

[grpc]
  address = "{CONTAINERD_SOCKET}"

[plugins."io.containerd.internal.v1.opt"]
  path = "/var/lib/containerd/opt"

[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{PAUSE_IMAGE}"
  disable_apparmor = true
  restrict_oom_score_adj = true
  netns_mounts_under_state_dir = true

  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{HOME}/cni/bin"
    conf_dir = "{HOME}/cni/net.d"

  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "native"
    default_runtime_name = "runc"

    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"

      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        SystemdCgroup = false
"#
    )
}

/// The kubelet's settings (JSON is YAML).
pub(super) fn kubelet(cgroup: &Path) -> String {
    json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        // only who is in the node's namespace reaches it
        "authentication": {"anonymous": {"enabled": true}, "webhook": {"enabled": false}},
        "authorization": {"mode": "AlwaysAllow"},
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": cgroup,
        "cgroupsPerQOS": true,
        "enforceNodeAllocatable": ["pods"],
        "failCgroupV1": false,
        "failSwapOn": false,
        "clusterDNS": [DNS_SERVICE],
        "clusterDomain": "cluster.local",
        "containerRuntimeEndpoint": format!("unix://{CONTAINERD_SOCKET}"),
        // the disk is the machine's: how full it is says nothing about the node
        "evictionHard": {"imagefs.available": "1%", "memory.available": "50Mi", "nodefs.available": "1%", "nodefs.inodesFree": "1%"},
        // images come from archives: one that was removed would not come back
        "imageGCHighThresholdPercent": 100,
        "imageGCLowThresholdPercent": 99,
        "oomScoreAdj": 0,
        "readOnlyPort": 0,
        "resolvConf": format!("{HOME}/resolv.conf"),
        "volumePluginDir": "/var/lib/kubelet/volume-plugins",
    })
    .to_string()
}

/// The list of CNI plugins.
pub(super) fn cni(cni: Cni, node: &NodePlan) -> String {
    let ranges: Vec<_> = node.pods.iter().map(|range| json!([{"subnet": range}])).collect();
    let anywhere = ["0.0.0.0/0", "::/0"];
    let routes: Vec<_> = anywhere
        .iter()
        .take(node.pods.len())
        .map(|dst| json!({"dst": dst}))
        .collect();
    let ipam = json!({"type": "host-local", "ranges": ranges, "routes": routes});
    let joining = match cni {
        Cni::Ptp => json!({"type": "ptp", "ipMasq": false, "ipam": ipam}),
        Cni::Bridge => json!({
            "type": "bridge", "bridge": "cni0", "isGateway": true, "hairpinMode": true, "ipMasq": false, "ipam": ipam,
        }),
    };
    let ports = json!({"type": "portmap", "capabilities": {"portMappings": true}});
    json!({"cniVersion": "1.0.0", "name": "pods", "plugins": [joining, ports]}).to_string()
}

/// The Node object. It is made before the kubelet starts, so that each node has the pod range that the other nodes' routes say.
pub(super) fn node(node: &NodePlan) -> serde_json::Value {
    json!({
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": node.name, "labels": {"kubernetes.io/hostname": node.name}},
        "spec": {"podCIDR": node.pods.first(), "podCIDRs": node.pods},
    })
}

#[cfg(test)]
mod tests {
    use super::{
        super::plan::{Family, nodes},
        *,
    };

    #[test]
    fn the_plugins_follow_the_choices() {
        for (kind, family, has, lacks) in [
            (
                Cni::Ptp,
                Family::Dual,
                vec![r#""ptp""#, "10.244.2.0/24", "fd44:0:0:2::/64", "::/0"],
                vec!["bridge"],
            ),
            (
                Cni::Bridge,
                Family::Ipv4,
                vec![r#""bridge""#, "cni0", "10.244.2.0/24"],
                vec!["ptp", "fd44", "::/0"],
            ),
        ] {
            let text = cni(kind, &nodes(2, family).unwrap()[1]);
            for part in has {
                assert!(text.contains(part), "{text} lacks {part}");
            }
            for part in lacks {
                assert!(!text.contains(part), "{text} has {part}");
            }
        }
    }

    #[test]
    fn a_node_is_made_with_the_ranges_that_the_routes_lead_to() {
        let plan = &nodes(1, Family::Dual).unwrap()[0];
        let object = node(plan);
        assert_eq!(object["spec"]["podCIDR"], plan.pods[0]);
        assert_eq!(object["spec"]["podCIDRs"][1], plan.pods[1]);
    }
}
