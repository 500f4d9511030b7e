//! What the model says: an immutable, numbered [`Snapshot`]. Routing reads it, the kernel's tables are part of it.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use ipnet::IpNet;

use super::{
    AppProtocol, Patterns, PolicySpec, PolicyVerdict, RequestSettings, RouteTable, RouteVerdict, Routes, SetAside,
    Tables, WEIGHT_DEFAULT,
};
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
    /// Routes by service address and port. A Service with a route is steered even when it has no endpoint of its own.
    pub routes: Routes,
    /// The upstreams that routes' backends name, in both families; shared with `upstreams` where they are there too.
    pub backends: BTreeMap<UpstreamKey, Arc<Upstream>>,
    /// What became of each HTTPRoute.
    pub route_verdicts: BTreeMap<ObjectRef, RouteVerdict>,
    /// What became of each TrafficPolicy.
    pub policy_verdicts: BTreeMap<ObjectRef, PolicyVerdict>,
    /// The regular expressions of all HTTPRoutes, for the next build: it compiles only what is new.
    pub patterns: Patterns,
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
    /// Its weight among its Service's endpoints, 1 to 1000.
    pub weight: u16,
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
    /// The family of its endpoints.
    pub family: Family,
    /// What `appProtocol` says.
    pub app_protocol: AppProtocol,
    /// Ready endpoints in the order of their addresses, each once.
    pub endpoints: Vec<UpstreamEndpoint>,
    /// The policy of its Service, if it has one: balancing, breaking and limits of what goes to its endpoints.
    pub policy: Option<Arc<AppliedPolicy>>,
    /// What holds for requests that are addressed to it and meet no route: the policy's timeouts and retries.
    pub settings: Arc<RequestSettings>,
}

/// What an upstream is known by.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UpstreamKey {
    /// The Service.
    pub service: ObjectRef,
    /// The Service's port.
    pub port: u16,
    /// The family of its endpoints.
    pub family: Family,
}

/// An address family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

/// The policy that holds for a Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AppliedPolicy {
    /// The TrafficPolicy.
    pub name: ObjectRef,
    /// The generation of the spec, which may be older than the object's: the last one that was valid.
    pub generation: i64,
    /// The settings.
    pub spec: PolicySpec,
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

impl Upstream {
    /// What it is known by.
    pub fn key(&self) -> UpstreamKey {
        UpstreamKey {
            service: self.service.clone(),
            port: self.port,
            family: self.family,
        }
    }

    /// Its Service's settings.
    pub fn spec(&self) -> Option<&PolicySpec> {
        self.policy.as_ref().map(|policy| &policy.spec)
    }
}

impl UpstreamEndpoint {
    /// Its weight, 1 to 1000.
    pub fn weight(&self) -> u16 {
        self.workload
            .as_ref()
            .map_or(WEIGHT_DEFAULT, |workload| workload.weight)
    }
}

impl Family {
    /// Of an address.
    pub fn of(address: IpAddr) -> Self {
        if address.is_ipv4() { Self::V4 } else { Self::V6 }
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

    /// The rules that a client's requests to a service address and port meet; none if it is not routed for that client.
    pub fn route_table(&self, client_namespace: Option<&str>, destination: SocketAddr) -> Option<&Arc<RouteTable>> {
        self.routes.get(&destination)?.of_client(client_namespace)
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
