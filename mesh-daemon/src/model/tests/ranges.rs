//! Which pod ranges are taken.

use ipnet::IpNet;
use mesh_common::addr::Addr;

use super::{
    super::{Node, build},
    empty, ip, set_aside,
};

fn range(text: &str) -> IpNet {
    text.parse().unwrap()
}

#[test]
fn ranges_of_nodes_and_settings_are_taken_once_without_host_bits() {
    let mut inputs = empty();
    for (name, ranges) in [
        ("n1", ["10.244.0.7/24", "fd00:0:0:1::/64"]),
        ("n2", ["10.244.1.0/24"; 2]),
    ] {
        let pod_cidrs = ranges.map(range).to_vec();
        inputs.nodes.insert(name.to_owned(), Node { pod_cidrs });
    }
    inputs.pod_cidrs = vec![range("10.244.0.0/24"), range("10.250.0.0/16")];
    let content = build(&inputs);
    let expected = ["10.244.0.0/24", "10.244.1.0/24", "10.250.0.0/16", "fd00:0:0:1::/64"];
    assert_eq!(content.pod_ranges, expected.map(range).into());
    assert_eq!(set_aside(&content), [""; 0]);
    for (address, inside) in [
        ("10.244.1.255", true),
        ("10.244.2.0", false),
        ("fd00:0:0:1::9", true),
        ("fd00:0:0:2::9", false),
    ] {
        assert_eq!(content.in_pod_range(ip(address)), inside, "{address}");
    }
}

#[test]
fn the_kernels_prefix_counts_the_bits_before_a_mapped_address() {
    let mut inputs = empty();
    inputs.pod_cidrs = vec![range("10.244.3.9/24"), range("fd00::/64")];
    let expected = [(120, Addr::from(ip("10.244.3.0"))), (64, Addr::from(ip("fd00::")))];
    assert_eq!(build(&inputs).tables.pod_ranges, expected.into());
}

#[test]
fn ranges_that_touch_addresses_no_pod_can_have_are_refused() {
    for refused in [
        "0.0.0.0/0",
        "0.0.0.0/1",
        "128.0.0.0/1",
        "0.1.0.0/16",
        "127.0.0.0/8",
        "127.5.0.0/16",
        "169.254.0.0/16",
        "169.254.20.0/24",
        "224.0.0.0/4",
        "239.1.0.0/16",
        "255.255.255.255/32",
        "::/0",
        "::/64",
        "::1/128",
        "fe80::/10",
        "fe80:0:0:1::/64",
        "ff02::/16",
        // in the kernel's trie these would be all of IPv4, and 10.0.0.0/8
        "::ffff:0:0/96",
        "::ffff:10.0.0.0/104",
    ] {
        let mut inputs = empty();
        let pod_cidrs = vec![range(refused), range("10.1.0.0/24")];
        inputs.nodes.insert("n1".to_owned(), Node { pod_cidrs });
        let content = build(&inputs);
        assert_eq!(content.pod_ranges, [range("10.1.0.0/24")].into(), "{refused}");
        assert_eq!(content.tables.pod_ranges.len(), 1, "{refused}");
        assert_eq!(set_aside(&content), ["Node n1 invalid_pod_cidr"], "{refused}");
    }
}

#[test]
fn a_refused_range_of_the_settings_names_the_flag() {
    let mut inputs = empty();
    inputs.pod_cidrs = vec![range("0.0.0.0/0")];
    assert_eq!(set_aside(&build(&inputs)), ["Setting --pod-cidr invalid_pod_cidr"]);
}
