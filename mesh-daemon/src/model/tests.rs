//! The model's rules, one row or test each, told through [`build`](super::build) alone: what goes in, what comes out.

mod capture;
mod order;
mod owners;
mod ranges;
mod routes;
mod upstreams;

use std::net::IpAddr;

use super::{
    AppProtocol, Content, Endpoint, EndpointSlice, Facts, Inputs, Link, LinkKind, Namespace, Pod, PodPhase, Service,
    ServicePort, SlicePort,
};
use crate::ids::{NodeName, ObjectRef};

/// A node `n1` without anything.
fn empty() -> Inputs {
    Inputs {
        routes: Default::default(),
        policies: Default::default(),
        node: NodeName("n1".to_owned()),
        pod_cidrs: Vec::new(),
        namespaces: [].into(),
        pods: [].into(),
        services: [].into(),
        endpoint_slices: [].into(),
        nodes: [].into(),
        facts: Facts::default(),
        refused: [].into(),
    }
}

/// A captured namespace `shop`, and the interfaces `lo` (1), `eth0` (2) and `veth10` to `veth12`.
fn shop() -> Inputs {
    let mut inputs = empty();
    inputs.namespaces.insert("shop".to_owned(), labelled(Some("enabled")));
    inputs.link(1, "lo", LinkKind::Loopback, None);
    inputs.link(2, "eth0", LinkKind::Ethernet, None);
    for index in 10..13 {
        inputs.link(index, &format!("veth{index}"), LinkKind::Ethernet, None);
    }
    inputs
}

impl Inputs {
    fn pod(&mut self, name: &str, pod: Pod) -> &mut Self {
        self.pods.insert(object(name), pod);
        self
    }

    fn link(&mut self, index: u32, name: &str, kind: LinkKind, master: Option<u32>) -> &mut Self {
        let name = name.to_owned();
        self.facts.links.insert(index, Link { name, kind, master });
        self
    }

    /// The address is reached through the interface.
    fn route(&mut self, address: &str, index: u32) -> &mut Self {
        self.facts.on_link.insert(ip(address), index);
        self
    }

    fn service(&mut self, name: &str, service: Service) -> &mut Self {
        self.services.insert(object(name), service);
        self
    }

    fn slice(&mut self, name: &str, slice: EndpointSlice) -> &mut Self {
        self.endpoint_slices.insert(object(name), slice);
        self
    }
}

/// A running pod of this node.
fn local(ips: &[&str]) -> Pod {
    Pod {
        weight: 1,
        uid: String::new(),
        capture_label: None,
        workload: "web".to_owned(),
        node: Some(NodeName("n1".to_owned())),
        service_account: None,
        host_network: false,
        phase: PodPhase::Active,
        ips: ips.iter().map(|address| ip(address)).collect(),
        start_time: None,
    }
}

/// A running pod of another node.
fn remote(ips: &[&str]) -> Pod {
    Pod {
        node: Some(NodeName("n2".to_owned())),
        ..local(ips)
    }
}

fn labelled(label: Option<&str>) -> Namespace {
    Namespace {
        capture_label: label.map(str::to_owned),
    }
}

fn service(cluster_ips: &[&str], ports: &[(&str, u16)]) -> Service {
    Service {
        kind: Default::default(),
        cluster_ips: cluster_ips.iter().map(|address| ip(address)).collect(),
        ports: ports
            .iter()
            .map(|(name, port)| ServicePort {
                name: (*name).to_owned(),
                port: *port,
                target: None,
                app_protocol: AppProtocol::Detect,
            })
            .collect(),
    }
}

fn slice(service: &str, ports: &[(&str, u16)], endpoints: &[Endpoint]) -> EndpointSlice {
    EndpointSlice {
        service: service.to_owned(),
        ports: ports
            .iter()
            .map(|(name, port)| SlicePort {
                name: (*name).to_owned(),
                port: *port,
                app_protocol: AppProtocol::Detect,
            })
            .collect(),
        endpoints: endpoints.to_vec(),
    }
}

fn ready(address: &str) -> Endpoint {
    Endpoint {
        address: ip(address),
        ready: true,
        serving: true,
        terminating: false,
    }
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn object(text: &str) -> ObjectRef {
    let (namespace, name) = text.split_once('/').unwrap();
    ObjectRef::new(namespace, name)
}

/// What was set aside, as `kind name reason`.
fn set_aside(content: &Content) -> Vec<String> {
    content
        .set_aside
        .iter()
        .map(|aside| format!("{} {} {}", aside.kind, aside.name, aside.reason))
        .collect()
}

/// The same numbers for the same seed: xorshift64 (Marsaglia, "Xorshift RNGs", 2003).
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        // the low bits of small seeds are poor at first
        usize::try_from(self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33).unwrap() % end
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }

    fn shuffle<T>(&mut self, list: &mut [T]) {
        for last in (1..list.len()).rev() {
            list.swap(last, self.below(last + 1));
        }
    }
}
