//! What the model says: an immutable, numbered [`Snapshot`]. Routing reads it, the kernel's tables are part of it.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use ipnet::IpNet;

use super::{AppProtocol, SetAside, Tables};
use crate::ids::{Generation, NodeName, ObjectRef};

/// A numbered [`Content`]. One publisher gives the numbers, 1 and up, without gaps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// Its number.
    pub generation: Generation,
    /// What it says.
    pub content: Content,
}

/// What [`super::build`] makes of [`super::Inputs`]. Equal inputs give equal contents.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Content {
    /// Who owns which address, in the whole cluster.
    pub workloads: BTreeMap<IpAddr, Arc<Workload>>,
    /// Service address and port → where its connections go. Also ports without a ready endpoint; those are not steered.
    pub upstreams: BTreeMap<SocketAddr, Arc<Upstream>>,
    /// Ranges that pods' addresses come from.
    pub pod_ranges: BTreeSet<IpNet>,
    /// Addresses of the node itself.
    pub node_addresses: BTreeSet<IpAddr>,
    /// Pods of this node: captured, or why not.
    pub captures: BTreeMap<ObjectRef, Capture>,
    /// What is not used, and why.
    pub set_aside: BTreeSet<SetAside>,
    /// What the kernel's maps must hold, and where programs must stand.
    pub tables: Tables,
}

/// A pod, as the owner of addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Workload {
    /// The pod.
    pub pod: ObjectRef,
    /// The pod's UID.
    pub uid: String,
    /// The workload's name: the owning Deployment's …, or the pod's own.
    pub name: String,
    /// `spec.nodeName`.
    pub node: Option<NodeName>,
    /// Its interface on this node, if it has one here.
    pub interface: Option<u32>,
}

/// Where connections to one service address and port go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upstream {
    /// The Service.
    pub service: ObjectRef,
    /// The service port.
    pub port: u16,
    /// What `appProtocol` says.
    pub app_protocol: AppProtocol,
    /// Ready endpoints in the order of their addresses, each once.
    pub endpoints: Vec<UpstreamEndpoint>,
}

/// One endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamEndpoint {
    /// Where to connect to.
    pub address: SocketAddr,
    /// Who it is: by address, never by the slice's `targetRef`, which its author can forge.
    pub workload: Option<Arc<Workload>>,
}

/// Whether a pod of this node is captured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Capture {
    /// Captured, at the interface with this index.
    Captured(u32),
    /// Not, and why.
    Not(NotCaptured),
}

/// Why a pod of this node is not captured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum NotCaptured {
    /// Neither its namespace nor itself asks for it, or its own label says `disabled`.
    NotLabelled,
    /// It shares the node's network.
    HostNetwork,
    /// Succeeded or Failed.
    Finished,
    /// It has no address yet, or another pod owns it.
    NoAddress,
    /// No interface of this node leads to its address (yet).
    NoInterface,
    /// Another pod is reached through the same interface: who sent a packet could not be told.
    SharedInterface,
    /// Its interface is a port of a bridge, which is not supported yet.
    BridgePort,
}

impl NotCaptured {
    /// The metric label, in snake case.
    pub fn name(self) -> &'static str {
        match self {
            Self::NotLabelled => "not_labelled",
            Self::HostNetwork => "host_network",
            Self::Finished => "finished",
            Self::NoAddress => "no_address",
            Self::NoInterface => "no_interface",
            Self::SharedInterface => "shared_interface",
            Self::BridgePort => "bridge_port",
        }
    }
}

impl Content {
    /// Who owns the address.
    pub fn workload(&self, address: IpAddr) -> Option<&Arc<Workload>> {
        self.workloads.get(&address)
    }

    /// Where connections to a service address and port go.
    pub fn upstream(&self, address: SocketAddr) -> Option<&Arc<Upstream>> {
        self.upstreams.get(&address)
    }

    /// Whether the address lies in a pod range.
    pub fn in_pod_range(&self, address: IpAddr) -> bool {
        self.pod_ranges.iter().any(|range| range.contains(&address))
    }

    /// Whether the address is one of the node's own.
    pub fn is_node_address(&self, address: IpAddr) -> bool {
        self.node_addresses.contains(&address)
    }
}
