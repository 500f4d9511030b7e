//! The choices a cluster is made by, and the addresses that follow from them: pure, so that every part writes the same ones down.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::{Result, ensure};

/// How pods are joined to their node, by which of the standard CNI plugins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Cni {
    /// A veth pair for each pod, routed
    Ptp,
    /// A Linux bridge on each node
    Bridge,
}

/// Which address families pods, Services and nodes have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Family {
    /// IPv4 and IPv6, IPv4 first
    Dual,
    /// IPv4 alone
    Ipv4,
}

/// Node numbers are one byte of every address, and the fabric's gateway has the highest.
const NODES_MAX: u8 = 9;
/// Where packets to nowhere go: the fabric, which says that there is no route.
pub(super) const GATEWAY_V4: Ipv4Addr = Ipv4Addr::new(10, 10, 0, 254);
/// As [`GATEWAY_V4`].
pub(super) const GATEWAY_V6: Ipv6Addr = Ipv6Addr::new(0xfd10, 0, 0, 0, 0, 0, 0, 0xfe);
/// All pods of all nodes.
const PODS_V4: &str = "10.244.0.0/16";
/// As [`PODS_V4`]; each node has a /64 of it.
const PODS_V6: &str = "fd44::/56";
/// All Services.
const SERVICES_V4: &str = "10.96.0.0/16";
/// As [`SERVICES_V4`].
const SERVICES_V6: &str = "fd96::/108";

/// One node's name and addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct NodePlan {
    /// From 1.
    pub(super) number: u8,
    /// As a Kubernetes Node.
    pub(super) name: String,
    /// On the fabric.
    pub(super) v4: Ipv4Addr,
    /// On the fabric; only with two families.
    pub(super) v6: Option<Ipv6Addr>,
    /// The ranges of its pods, IPv4 first.
    pub(super) pods: Vec<String>,
}

/// The nodes of a cluster.
///
/// # Errors
/// If so many have no addresses.
pub(super) fn nodes(count: u8, family: Family) -> Result<Vec<NodePlan>> {
    ensure!(
        (1..=NODES_MAX).contains(&count),
        "a cluster has 1 to {NODES_MAX} nodes, not {count}"
    );
    Ok((1..=count).map(|number| NodePlan::new(number, family)).collect())
}

impl NodePlan {
    fn new(number: u8, family: Family) -> Self {
        let v6 = Ipv6Addr::new(0xfd10, 0, 0, 0, 0, 0, 0, u16::from(number));
        let pods_v6 = format!("fd44:0:0:{number}::/64");
        let dual = family == Family::Dual;
        Self {
            number,
            name: format!("n{number}"),
            v4: Ipv4Addr::new(10, 10, 0, number),
            v6: dual.then_some(v6),
            pods: [format!("10.244.{number}.0/24")]
                .into_iter()
                .chain(dual.then_some(pods_v6))
                .collect(),
        }
    }

    /// Its addresses, IPv4 first.
    pub(super) fn ips(&self) -> Vec<IpAddr> {
        [IpAddr::from(self.v4)]
            .into_iter()
            .chain(self.v6.map(IpAddr::from))
            .collect()
    }
}

impl Family {
    /// The range of all pods, as the components' flags want it.
    pub fn pod_ranges(self) -> String {
        self.joined(PODS_V4, PODS_V6)
    }

    /// The range of all Services, as the components' flags want it.
    pub fn service_ranges(self) -> String {
        self.joined(SERVICES_V4, SERVICES_V6)
    }

    fn joined(self, v4: &str, v6: &str) -> String {
        match self {
            Self::Dual => format!("{v4},{v6}"),
            Self::Ipv4 => v4.to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_node_has_addresses_of_its_families_and_none_has_anothers() {
        let dual = nodes(2, Family::Dual).unwrap();
        assert_eq!(
            dual[1].ips(),
            ["10.10.0.2", "fd10::2"].map(|ip| ip.parse::<IpAddr>().unwrap())
        );
        assert_eq!(dual[1].pods, ["10.244.2.0/24", "fd44:0:0:2::/64"]);
        assert_ne!(dual[0].pods, dual[1].pods);
        let single = nodes(1, Family::Ipv4).unwrap();
        assert_eq!(single[0].ips().len(), 1);
        assert_eq!(single[0].pods, ["10.244.1.0/24"]);
        assert_eq!(Family::Ipv4.service_ranges(), "10.96.0.0/16");
        assert_eq!(Family::Dual.pod_ranges(), "10.244.0.0/16,fd44::/56");
    }

    #[test]
    fn a_count_without_addresses_is_refused() {
        for count in [0, NODES_MAX + 1] {
            assert!(nodes(count, Family::Dual).is_err(), "{count}");
        }
    }
}
