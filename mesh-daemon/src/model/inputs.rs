//! What the model is built from: Kubernetes objects trimmed to the fields that matter, and facts about this node's interfaces. The border
//! rooms parse into these types; a value that exists here is well-formed.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::{http_route::HttpRoute, traffic_policy::TrafficPolicy};
use crate::ids::{NodeName, ObjectRef};

/// Everything that [`super::build`] reads. Maps are ordered, so that equal inputs give equal output whatever the order of events was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inputs {
    /// This node.
    pub node: NodeName,
    /// Pod ranges from the settings, beside the Nodes' own.
    pub pod_cidrs: Vec<IpNet>,
    /// By name.
    pub namespaces: BTreeMap<String, Namespace>,
    /// By namespace and name.
    pub pods: BTreeMap<ObjectRef, Pod>,
    /// By namespace and name.
    pub services: BTreeMap<ObjectRef, Service>,
    /// By namespace and name.
    pub endpoint_slices: BTreeMap<ObjectRef, EndpointSlice>,
    /// By name.
    pub nodes: BTreeMap<String, Node>,
    /// HTTPRoutes with Services as parents, by namespace and name.
    pub routes: BTreeMap<ObjectRef, HttpRoute>,
    /// By namespace and name.
    pub policies: BTreeMap<ObjectRef, TrafficPolicy>,
    /// What the kernel says of this node.
    pub facts: Facts,
    /// Objects (or parts of them) that the border refused, carried through so that one place reports all.
    pub refused: BTreeSet<SetAside>,
}

/// [`Inputs`] on loan: what [`super::build`] reads, wherever it is kept. With ten thousand pods a copy for each change would cost more than
/// the build.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    /// As [`Inputs::node`].
    pub node: &'a NodeName,
    /// As [`Inputs::pod_cidrs`].
    pub pod_cidrs: &'a [IpNet],
    /// As [`Inputs::namespaces`].
    pub namespaces: &'a BTreeMap<String, Namespace>,
    /// As [`Inputs::pods`].
    pub pods: &'a BTreeMap<ObjectRef, Pod>,
    /// As [`Inputs::services`].
    pub services: &'a BTreeMap<ObjectRef, Service>,
    /// As [`Inputs::endpoint_slices`].
    pub endpoint_slices: &'a BTreeMap<ObjectRef, EndpointSlice>,
    /// As [`Inputs::nodes`].
    pub nodes: &'a BTreeMap<String, Node>,
    /// As [`Inputs::routes`].
    pub routes: &'a BTreeMap<ObjectRef, HttpRoute>,
    /// As [`Inputs::policies`].
    pub policies: &'a BTreeMap<ObjectRef, TrafficPolicy>,
    /// As [`Inputs::facts`].
    pub facts: &'a Facts,
    /// As [`Inputs::refused`].
    pub refused: &'a BTreeSet<SetAside>,
}

impl<'a> From<&'a Inputs> for View<'a> {
    fn from(inputs: &'a Inputs) -> Self {
        let Inputs {
            node,
            pod_cidrs,
            namespaces,
            pods,
            services,
            endpoint_slices,
            nodes,
            routes,
            policies,
            facts,
            refused,
        } = inputs;
        Self {
            node,
            pod_cidrs,
            namespaces,
            pods,
            services,
            endpoint_slices,
            nodes,
            routes,
            policies,
            facts,
            refused,
        }
    }
}

/// Something of the input that is not used, and why. The rest serves on.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SetAside {
    /// The kind, as in the manifest: `Pod`, `Service`, or `File`.
    pub kind: String,
    /// `namespace/name`, a name, or a file's path.
    pub name: String,
    /// A metric label in snake case, from a closed set: `unparsable`, `invalid_port` …
    pub reason: &'static str,
    /// One sentence for people: what is wrong, where.
    pub detail: String,
}

/// A Namespace.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Namespace {
    /// The label `weft.mesh/capture`.
    pub capture_label: Option<String>,
}

/// A Pod.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pod {
    /// `metadata.uid`; empty if the manifest has none.
    pub uid: String,
    /// The label `weft.mesh/capture`.
    pub capture_label: Option<String>,
    /// The workload's name: the owning Deployment's, StatefulSet's …, or the pod's own.
    pub workload: String,
    /// `spec.nodeName`.
    pub node: Option<NodeName>,
    /// `spec.serviceAccountName`.
    pub service_account: Option<String>,
    /// The annotation `weft.mesh/weight`, 1 to 1000; 1 if absent or out of range.
    #[serde(default = "weight_default")]
    pub weight: u16,
    /// `spec.hostNetwork`.
    pub host_network: bool,
    /// `status.phase`.
    pub phase: PodPhase,
    /// `status.podIPs`, else `status.podIP`.
    pub ips: Vec<IpAddr>,
    /// `status.startTime` in seconds since the epoch.
    pub start_time: Option<i64>,
}

/// `status.phase`, as far as it matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PodPhase {
    /// Succeeded or Failed: keeps its podIP in the API and owns no address.
    Finished,
    /// Anything else.
    Active,
}

/// A pod's share among its Service's endpoints where it says nothing.
pub const WEIGHT_DEFAULT: u16 = 1;

fn weight_default() -> u16 {
    WEIGHT_DEFAULT
}

/// A Service.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Service {
    /// What of a Service it is.
    #[serde(default)]
    pub kind: ServiceKind,
    /// `spec.clusterIPs`, without `None`; empty for headless and ExternalName.
    pub cluster_ips: Vec<IpAddr>,
    /// TCP ports only.
    pub ports: Vec<ServicePort>,
}

/// What a Service is, as far as routes care: which may be their parents, and which their backends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum ServiceKind {
    /// It has addresses of its own, or none yet.
    #[default]
    ClusterIp,
    /// `clusterIP: None`: no parent of a route, but a backend.
    Headless,
    /// `type: ExternalName`: neither.
    ExternalName,
    /// Only kube-proxy keeps what it asks for (`sessionAffinity: ClientIP`, `internalTrafficPolicy: Local`): it is not captured, so no parent.
    LeftToKubeProxy,
}

/// A TCP port of a Service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServicePort {
    /// The port's name; empty if it has none. EndpointSlices refer to it.
    pub name: String,
    /// The port.
    pub port: u16,
    /// `targetPort`; `EndpointSlice` ports are already resolved, so it serves display only.
    pub target: Option<TargetPort>,
    /// `appProtocol`.
    pub app_protocol: AppProtocol,
}

/// A Service's `targetPort`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TargetPort {
    /// A number.
    Number(u16),
    /// The name of a container port.
    Name(String),
}

/// What `appProtocol` says about the first bytes (Kubernetes: Services, "Application protocol"; IANA service names).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum AppProtocol {
    /// Nothing, or nothing that is known: look at the first bytes.
    #[default]
    Detect,
    /// `http`, `kubernetes.io/ws`: HTTP without a wait, version by its first bytes.
    Http,
    /// `kubernetes.io/h2c`, `grpc`: HTTP/2 with prior knowledge.
    Http2,
    /// `tcp`, `tls`, `https`, `kubernetes.io/wss`, databases …: carried as bytes without a wait.
    Opaque,
}

/// An EndpointSlice.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndpointSlice {
    /// Label `kubernetes.io/service-name`, in the slice's own namespace.
    pub service: String,
    /// TCP ports only.
    pub ports: Vec<SlicePort>,
    /// The endpoints.
    pub endpoints: Vec<Endpoint>,
}

/// A port of an EndpointSlice.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlicePort {
    /// The Service port's name.
    pub name: String,
    /// The port on the endpoints.
    pub port: u16,
    /// `appProtocol`, used where the Service says nothing.
    pub app_protocol: AppProtocol,
}

/// An endpoint of an EndpointSlice.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    /// The first address (Kubernetes: consumers use the first only).
    pub address: IpAddr,
    /// `conditions.ready`; absent means true.
    pub ready: bool,
    /// `conditions.serving`; absent means `ready`.
    pub serving: bool,
    /// `conditions.terminating`; absent means false.
    pub terminating: bool,
}

/// A Node.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Node {
    /// `spec.podCIDRs`, else `spec.podCIDR`.
    pub pod_cidrs: Vec<IpNet>,
}

/// What the kernel says of this node, read by netlink.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Facts {
    /// Addresses of the node itself, on whatever interface.
    pub node_addresses: BTreeSet<IpAddr>,
    /// By interface index.
    pub links: BTreeMap<u32, Link>,
    /// Addresses that are reached on-link through one interface: host routes (/32, /128, no gateway), else permanent or reachable
    /// neighbour entries. The value is the interface's index.
    pub on_link: BTreeMap<IpAddr, u32>,
}

/// An interface of the node's namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Its name.
    pub name: String,
    /// What it is, as far as capture cares.
    pub kind: LinkKind,
    /// The index of its bridge, bond or VRF.
    pub master: Option<u32>,
}

/// What an interface is, as far as capture cares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkKind {
    /// `lo`: no program stands on it.
    Loopback,
    /// A bridge.
    Bridge,
    /// Has Ethernet frames.
    Ethernet,
    /// Has none (tunnels, WireGuard): an IP header comes first.
    NoLinkLayer,
}
