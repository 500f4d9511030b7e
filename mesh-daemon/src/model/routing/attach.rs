//! Which addresses and ports a route's parent stands for.

use std::{collections::BTreeSet, net::SocketAddr};

use super::{
    super::{AppProtocol, Service, ServiceKind, ServicePort, http_route::RouteParent},
    World,
};
use crate::ids::ObjectRef;

/// A field of a parent that names nothing, and why, as a sentence.
pub(super) type NoParent = (&'static str, String);

/// The addresses and ports of the parent: every one of the Service's ports that it means and whose requests are read, at each of its ClusterIPs. A Service
/// that has no address yet is a parent all the same; an address that belongs to another Service is left out.
///
/// # Errors
/// Which field of the parent it is that names none, and why, as a sentence.
pub(super) fn addresses(
    world: &World<'_>,
    route: &ObjectRef,
    parent: &RouteParent,
) -> Result<Vec<SocketAddr>, NoParent> {
    let name = parent.service(route);
    let Some(service) = world.inputs.services.get(&name) else {
        return Err(("name", format!("there is no Service {name}")));
    };
    if let Some(reason) = refused(service.kind) {
        return Err(("name", format!("Service {name} {reason}")));
    }
    let ports: Vec<_> = ports(service, parent).collect();
    if ports.is_empty() {
        let sentence = format!("Service {name} has no TCP port{}", wanted(parent));
        return Err((narrowing(parent), sentence));
    }
    let ports: Vec<_> = ports.into_iter().filter(|port| is_read(port)).collect();
    if ports.is_empty() {
        let sentence = format!(
            "Service {name} has no port{} whose requests are read: their `appProtocol` says that they carry bytes, not HTTP",
            wanted(parent)
        );
        return Err((narrowing(parent), sentence));
    }
    let ips: BTreeSet<_> = service.cluster_ips.iter().collect();
    let addresses = ips
        .into_iter()
        .flat_map(|ip| ports.iter().map(|port| SocketAddr::new(*ip, port.port)));
    let is_its_own = |address: &SocketAddr| {
        let upstream = world.upstreams.get(address);
        upstream.is_some_and(|upstream| upstream.service == name)
    };
    Ok(addresses.filter(is_its_own).collect())
}

/// The field that narrows the parent most.
fn narrowing(parent: &RouteParent) -> &'static str {
    match (&parent.section_name, parent.port) {
        (Some(_), _) => "sectionName",
        (None, Some(_)) => "port",
        (None, None) => "name",
    }
}

fn refused(kind: ServiceKind) -> Option<&'static str> {
    match kind {
        ServiceKind::ClusterIp => None,
        ServiceKind::Headless => Some("is headless: its clients ask its pods themselves, and no route is on their way"),
        ServiceKind::ExternalName => Some("is of type ExternalName, which has no routes"),
        ServiceKind::LeftToKubeProxy => {
            Some("is left to kube-proxy, for its `sessionAffinity` or `internalTrafficPolicy`, and is not captured")
        }
    }
}

/// Those that `port` and `sectionName` both mean; of two ports with one number the first serves.
fn ports<'a>(service: &'a Service, parent: &'a RouteParent) -> impl Iterator<Item = &'a ServicePort> {
    let mut seen = BTreeSet::new();
    let ports = service.ports.iter().filter(move |port| seen.insert(port.port));
    ports.filter(|port| {
        parent.port.is_none_or(|number| number == port.port)
            && parent.section_name.as_ref().is_none_or(|name| *name == port.name)
    })
}

fn is_read(port: &ServicePort) -> bool {
    port.app_protocol != AppProtocol::Opaque
}

fn wanted(parent: &RouteParent) -> String {
    let number = parent.port.map(|port| format!(" {port}")).unwrap_or_default();
    let name = parent.section_name.as_ref().map(|name| format!(" named `{name}`"));
    number + &name.unwrap_or_default()
}
