//! The cluster's pod ranges: what lies in them is steered when a captured pod connects to it.

use std::collections::BTreeSet;

use ipnet::IpNet;
use mesh_common::addr::{Addr, V4_PREFIX_BITS};

use super::{SetAside, View};

/// What no pod range may touch: unspecified, loopback, link-local, multicast, broadcast, and IPv4 in IPv6's clothes (the kernel's trie would
/// take it for IPv4). Such a range is a mistake, and steering it would take the node's own traffic along.
const NEVER_PODS: [&str; 10] = [
    "0.0.0.0/8",
    "127.0.0.0/8",
    "169.254.0.0/16",
    "224.0.0.0/4",
    "255.255.255.255/32",
    "::/128",
    "::1/128",
    "::ffff:0:0/96",
    "fe80::/10",
    "ff00::/8",
];

/// Ranges of the Nodes and of the settings.
pub(super) fn pod_ranges(inputs: &View<'_>, set_aside: &mut BTreeSet<SetAside>) -> BTreeSet<IpNet> {
    let of_nodes = inputs
        .nodes
        .iter()
        .flat_map(|(name, node)| node.pod_cidrs.iter().map(move |range| ("Node", name.as_str(), range)));
    let of_settings = inputs.pod_cidrs.iter().map(|range| ("Setting", "--pod-cidr", range));
    let mut ranges = BTreeSet::new();
    for (kind, name, range) in of_nodes.chain(of_settings) {
        if may_hold_pods(range) {
            ranges.insert(range.trunc());
        } else {
            set_aside.insert(SetAside {
                kind: kind.to_owned(),
                name: name.to_owned(),
                reason: "invalid_pod_cidr",
                detail: format!("the pod range {range} touches addresses that no pod can have (unspecified, loopback, link-local, multicast, IPv4 in IPv6)"),
            });
        }
    }
    ranges
}

/// As the kernel's trie has it: bits of the 16-byte address, and the network.
pub(super) fn entry(range: &IpNet) -> (u32, Addr) {
    let mapped = if range.addr().is_ipv4() { V4_PREFIX_BITS } else { 0 };
    (mapped + u32::from(range.prefix_len()), Addr::from(range.network()))
}

fn may_hold_pods(range: &IpNet) -> bool {
    !NEVER_PODS
        .iter()
        .filter_map(|never| never.parse::<IpNet>().ok())
        .any(|never| range.contains(&never) || never.contains(range))
}
