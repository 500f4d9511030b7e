//! Service addresses → ready endpoints, from Services and their EndpointSlices.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use mesh_common::{
    addr::Addr,
    service::{SERVICES_MAX, ServiceKey, ServiceValue},
};

use super::{
    AppProtocol, Endpoint, EndpointSlice, Family, Routes, Service, ServicePort, SetAside, Upstream, UpstreamEndpoint,
    View, Workload, bounded::bounded,
};
use crate::ids::ObjectRef;

/// Who stands behind Services.
pub(super) struct Endpoints<'a> {
    /// By namespace and name of the Service.
    slices: BTreeMap<(&'a str, &'a str), Vec<&'a EndpointSlice>>,
    workloads: &'a BTreeMap<IpAddr, Arc<Workload>>,
}

impl<'a> Endpoints<'a> {
    /// Sorts the slices.
    pub(super) fn of(inputs: &View<'a>, workloads: &'a BTreeMap<IpAddr, Arc<Workload>>) -> Self {
        let mut slices: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for (name, slice) in inputs.endpoint_slices {
            let service = (name.namespace.as_str(), slice.service.as_str());
            slices.entry(service).or_default().push(slice);
        }
        Self { slices, workloads }
    }

    fn slices<'s>(&'s self, service: &'s ObjectRef) -> &'s [&'s EndpointSlice] {
        let slices = self.slices.get(&(service.namespace.as_str(), service.name.as_str()));
        slices.map_or(&[], Vec::as_slice)
    }
}

/// The upstream of every service address and port. Of two Services with one address the first by name has it.
pub(super) fn all(
    inputs: &View<'_>,
    endpoints: &Endpoints<'_>,
    set_aside: &mut BTreeSet<SetAside>,
) -> BTreeMap<SocketAddr, Arc<Upstream>> {
    let mut owners: BTreeMap<IpAddr, &ObjectRef> = BTreeMap::new();
    let mut upstreams = BTreeMap::new();
    for (name, service) in inputs.services {
        let addresses: BTreeSet<_> = service.cluster_ips.iter().collect();
        for address in addresses {
            if !usable(inputs, name, *address, set_aside) {
                continue;
            }
            if let Some(owner) = owners.get(address) {
                set_aside.insert(aside(
                    name,
                    "cluster_ip_conflict",
                    format!("ClusterIP {address} belongs to Service {owner}"),
                ));
                continue;
            }
            owners.insert(*address, name);
            for port in &service.ports {
                upstreams
                    .entry(SocketAddr::new(*address, port.port))
                    .or_insert_with(|| Arc::new(upstream(name, port, Family::of(*address), endpoints, set_aside)));
            }
        }
        report_duplicate_ports(name, service, set_aside);
    }
    upstreams
}

/// What the kernel steers: a service port without a ready endpoint is left to kube-proxy, which refuses it as its clients expect, unless it has a
/// route: that may lead elsewhere.
pub(super) fn steered(
    upstreams: &BTreeMap<SocketAddr, Arc<Upstream>>,
    routes: &Routes,
    set_aside: &mut BTreeSet<SetAside>,
) -> BTreeMap<ServiceKey, ServiceValue> {
    let wanted = upstreams
        .iter()
        .filter(|(address, upstream)| !upstream.endpoints.is_empty() || routes.contains_key(address))
        .map(|(address, upstream)| {
            let key = ServiceKey {
                addr: Addr::from(address.ip()),
                port: u32::from(address.port()),
            };
            (key, u32::try_from(upstream.endpoints.len()).unwrap_or(u32::MAX))
        });
    bounded("service ports", SERVICES_MAX, wanted, set_aside)
        .into_iter()
        .map(|(key, endpoints)| (key, ServiceValue { endpoints }))
        .collect()
}

/// One port of a Service in one family: what is addressed and what routes send to are made here alike.
pub(super) fn upstream(
    service: &ObjectRef,
    port: &ServicePort,
    family: Family,
    behind: &Endpoints<'_>,
    set_aside: &mut BTreeSet<SetAside>,
) -> Upstream {
    let mut app_protocol = port.app_protocol;
    let (mut ready, mut leaving) = (Vec::new(), Vec::new());
    for slice in behind.slices(service) {
        for slice_port in slice.ports.iter().filter(|slice_port| slice_port.name == port.name) {
            if app_protocol == AppProtocol::Detect {
                app_protocol = slice_port.app_protocol;
            }
            for endpoint in of_family(slice, family) {
                let addresses = match (endpoint.ready, endpoint.serving && endpoint.terminating) {
                    (true, _) => &mut ready,
                    (false, true) => &mut leaving,
                    (false, false) => continue,
                };
                if is_unicast(endpoint.address) {
                    addresses.push(SocketAddr::new(endpoint.address, slice_port.port));
                } else {
                    let detail = format!("endpoint {} is not an address of another host", endpoint.address);
                    set_aside.insert(aside(service, "invalid_endpoint", detail));
                }
            }
        }
    }
    // as kube-proxy has it (KEP-1669): while every pod is on its way out, those that still serve do
    let mut endpoints = if ready.is_empty() { leaving } else { ready };
    endpoints.sort_unstable();
    endpoints.dedup();
    let endpoints = endpoints
        .into_iter()
        .map(|address| UpstreamEndpoint {
            address,
            workload: behind.workloads.get(&address.ip()).cloned(),
        })
        .collect();
    Upstream {
        service: service.clone(),
        port: port.port,
        family,
        app_protocol,
        endpoints,
        policy: None,
        settings: Arc::default(),
    }
}

fn of_family(slice: &EndpointSlice, family: Family) -> impl Iterator<Item = &Endpoint> {
    let endpoints = slice.endpoints.iter();
    endpoints.filter(move |endpoint| Family::of(endpoint.address) == family)
}

fn usable(inputs: &View<'_>, service: &ObjectRef, address: IpAddr, set_aside: &mut BTreeSet<SetAside>) -> bool {
    let usable = is_unicast(address) && !inputs.facts.node_addresses.contains(&address);
    if !usable {
        let detail = format!("ClusterIP {address} is this node's own, or no address that a service can have");
        set_aside.insert(aside(service, "invalid_cluster_ip", detail));
    }
    usable
}

/// A connection to anything else would not leave the node, or would reach many: an EndpointSlice's author must not be able to point captured
/// pods at the node's loopback.
fn is_unicast(address: IpAddr) -> bool {
    let link_local = match address {
        IpAddr::V4(v4) => v4.is_link_local() || v4.is_broadcast(),
        IpAddr::V6(v6) => v6.is_unicast_link_local() || v6.to_ipv4_mapped().is_some(),
    };
    !(address.is_unspecified() || address.is_loopback() || address.is_multicast() || link_local)
}

fn report_duplicate_ports(name: &ObjectRef, service: &Service, set_aside: &mut BTreeSet<SetAside>) {
    let mut seen = BTreeSet::new();
    for port in service.ports.iter().filter(|port| !seen.insert(port.port)) {
        set_aside.insert(aside(
            name,
            "duplicate_port",
            format!("port {} is listed twice; the first one serves", port.port),
        ));
    }
}

fn aside(service: &ObjectRef, reason: &'static str, detail: String) -> SetAside {
    SetAside {
        kind: "Service".to_owned(),
        name: service.to_string(),
        reason,
        detail,
    }
}
