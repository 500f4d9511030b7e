//! The network between the nodes: a bridge in a namespace of its own, a veth to each node, routes to the other nodes' pods.

use anyhow::{Context, Result};

use super::plan::{Cni, GATEWAY_V4, GATEWAY_V6, NodePlan};
use crate::bench::{Netns, Run};

/// Without these, a Service's answer from one pod to another on the same bridge does not pass kube-proxy's rules.
const BRIDGE_FILTERS: [(&str, &str); 2] = [
    ("net/bridge/bridge-nf-call-iptables", "1"),
    ("net/bridge/bridge-nf-call-ip6tables", "1"),
];

/// Makes the fabric and the nodes' namespaces, joined and routed. Hands back the namespaces in the order of the nodes.
///
/// # Errors
/// If the caller is not root, a namespace of these names exists, or the kernel lacks what bridges need.
pub(super) fn make(run: &Run, nodes: &[NodePlan], cni: Cni) -> Result<Vec<Netns>> {
    let fabric = run.netns("fabric");
    fabric.create()?;
    // a router without routes: what leaves the cluster is refused at once instead of waiting for a neighbour that never answers
    fabric.sysctl(&[("net/ipv4/ip_forward", "1"), ("net/ipv6/conf/all/forwarding", "1")])?;
    fabric.ip(&format!(
        "link add fabric type bridge\nlink set fabric up\naddr add {GATEWAY_V4}/24 dev fabric\naddr add {GATEWAY_V6}/64 dev fabric nodad\n"
    ))?;
    let namespaces: Vec<_> = nodes
        .iter()
        .map(|node| join(run, &fabric, node, nodes))
        .collect::<Result<_>>()?;
    if cni == Cni::Bridge {
        for netns in &namespaces {
            netns.sysctl(&BRIDGE_FILTERS).context(
                "bridges need the kernel's br_netfilter; load it with `modprobe br_netfilter`, or take --cni=ptp",
            )?;
        }
    }
    Ok(namespaces)
}

fn join(run: &Run, fabric: &Netns, node: &NodePlan, all: &[NodePlan]) -> Result<Netns> {
    let netns = run.netns(&node.name);
    netns.create()?;
    netns.sysctl(&[
        ("net/ipv4/ip_forward", "1"),
        ("net/ipv4/conf/all/rp_filter", "0"),
        ("net/ipv4/conf/default/rp_filter", "0"),
        ("net/ipv6/conf/all/forwarding", "1"),
        ("net/ipv6/conf/default/forwarding", "1"),
        // the addresses are ours alone: pods need not wait a second until that is proven
        ("net/ipv6/conf/default/accept_dad", "0"),
    ])?;
    let NodePlan { number, v4, v6, .. } = node;
    netns.ip(&format!(
        "link add eth0 type veth peer name node{number} netns {}\n",
        fabric.name()
    ))?;
    fabric.ip(&format!("link set node{number} master fabric up\n"))?;
    let mut lines = format!("addr add {v4}/24 dev eth0\n");
    if let Some(v6) = v6 {
        lines += &format!("addr add {v6}/64 dev eth0 nodad\n");
    }
    // service addresses are on no interface: without a default route a node would refuse them before kube-proxy's rules see them
    lines += &format!("link set eth0 up\nroute add default via {GATEWAY_V4}\n");
    if v6.is_some() {
        lines += &format!("route add default via {GATEWAY_V6}\n");
    }
    for other in all.iter().filter(|other| other.number != *number) {
        for (range, via) in other.pods.iter().zip(other.ips()) {
            lines += &format!("route add {range} via {via}\n");
        }
    }
    netns.ip(&lines)?;
    Ok(netns)
}
