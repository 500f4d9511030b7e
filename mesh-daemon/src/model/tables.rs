//! What the kernel's maps must hold and where programs must stand, as plain ordered values: compared, diffed and printed without a kernel.

use std::collections::{BTreeMap, BTreeSet};

use mesh_common::{
    addr::Addr,
    capture::Iface,
    service::{ServiceKey, ServiceValue},
};

/// The kernel half's whole world.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Tables {
    /// Local pods' interfaces by index, captured or not.
    pub ifaces: BTreeMap<u32, Iface>,
    /// Service addresses that are steered: those with a ready endpoint or a route.
    pub services: BTreeMap<ServiceKey, ServiceValue>,
    /// Pod ranges: prefix length in bits of the 16-byte address (IPv4 mapped, so /24 is 120), and the network.
    pub pod_ranges: BTreeSet<(u32, Addr)>,
    /// The node's own addresses.
    pub node_addrs: BTreeSet<Addr>,
    /// Where programs stand, by interface index.
    pub attachments: BTreeMap<u32, Attachment>,
}

/// A program on an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attachment {
    /// The interface's name.
    pub interface: String,
    /// The program.
    pub program: Program,
}

/// Which program stands on an interface's ingress.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Program {
    /// On a local pod's host-side interface.
    FromPod,
    /// On every other interface but `lo`.
    FromNet,
    /// The same where packets have no link-layer header.
    FromNetL3,
}

impl Program {
    /// The program's name in the kernel.
    pub fn name(self) -> &'static str {
        match self {
            Self::FromPod => mesh_common::names::PROGRAM_FROM_POD,
            Self::FromNet => mesh_common::names::PROGRAM_FROM_NET,
            Self::FromNetL3 => mesh_common::names::PROGRAM_FROM_NET_L3,
        }
    }
}
