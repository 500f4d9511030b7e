//! Who the backends of rules are: a Service's endpoints in both families, or nobody.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use super::{
    super::{
        AppProtocol, Family, Service, ServiceKind, ServicePort, SetAside, Upstream, UpstreamKey,
        http_route::BackendTarget, upstreams,
    },
    Target, World,
};
use crate::ids::ObjectRef;

/// Why nobody can be sent to a backend.
#[derive(Clone)]
pub(super) struct Unresolved {
    /// As in `shop/web:80`.
    pub(super) name: String,
    /// The reason of `ResolvedRefs=False`.
    pub(super) reason: &'static str,
    /// Field and sentence.
    pub(super) message: String,
}

/// Both families of a Service's port.
type Pair = (Arc<Upstream>, Arc<Upstream>);

/// Finds upstreams, each once.
pub(super) struct Resolver<'a> {
    world: &'a World<'a>,
    set_aside: &'a mut BTreeSet<SetAside>,
    known: BTreeMap<(ObjectRef, u16), Pair>,
}

impl<'a> Resolver<'a> {
    /// Over these Services and endpoints.
    pub(super) fn new(world: &'a World<'a>, set_aside: &'a mut BTreeSet<SetAside>) -> Self {
        Self {
            world,
            set_aside,
            known: BTreeMap::new(),
        }
    }

    /// Where a backend's requests go.
    ///
    /// # Errors
    /// Why they go nowhere.
    pub(super) fn target(&mut self, field: &str, named: &BackendTarget) -> Result<Target, Unresolved> {
        let (service, port) = match named {
            BackendTarget::Service { service, port } => (service, *port),
            BackendTarget::InvalidKind(sentence) => {
                return Err(Unresolved {
                    name: "-".to_owned(),
                    reason: "InvalidKind",
                    message: format!("{field}: {sentence}"),
                });
            }
        };
        let found = find(self.world, service, port).map_err(|(reason, sentence)| Unresolved {
            name: format!("{service}:{port}"),
            reason,
            message: format!("{field}: {sentence}"),
        });
        let (v4, v6) = self.pair(service, found?);
        Ok(Target::Upstream { v4, v6 })
    }

    fn pair(&mut self, service: &ObjectRef, (of, port): (&Service, &ServicePort)) -> Pair {
        let key = (service.clone(), port.port);
        if let Some(known) = self.known.get(&key) {
            return known.clone();
        }
        let mut upstream = |family| self.upstream(service, of, port, family);
        let pair = (upstream(Family::V4), upstream(Family::V6));
        self.known.insert(key, pair.clone());
        pair
    }

    /// The one that connections to the Service's address take, if it has one of that family; else one of its own, the earlier build's if that is equal.
    fn upstream(&mut self, name: &ObjectRef, service: &Service, port: &ServicePort, family: Family) -> Arc<Upstream> {
        let world = self.world;
        let addresses = service.cluster_ips.iter().filter(|ip| Family::of(**ip) == family);
        let mut addressed = addresses.filter_map(|ip: &IpAddr| world.upstreams.get(&SocketAddr::new(*ip, port.port)));
        if let Some(upstream) = addressed.find(|upstream| upstream.service == *name) {
            return Arc::clone(upstream);
        }
        let upstream = upstreams::upstream(name, port, family, world.endpoints, self.set_aside);
        let key = UpstreamKey {
            service: name.clone(),
            port: port.port,
            family,
        };
        let earlier = world.earlier.and_then(|earlier| earlier.backends.get(&key));
        match earlier.filter(|earlier| ***earlier == upstream) {
            Some(earlier) => Arc::clone(earlier),
            None => Arc::new(upstream),
        }
    }
}

/// The Service and its port, or the standard's reason with a sentence.
fn find<'a>(
    world: &World<'a>,
    name: &ObjectRef,
    port: u16,
) -> Result<(&'a Service, &'a ServicePort), (&'static str, String)> {
    let Some(service) = world.inputs.services.get(name) else {
        return Err(("BackendNotFound", format!("there is no Service {name}")));
    };
    if service.kind == ServiceKind::ExternalName {
        // its author names hosts that a route's author may not reach (CVE-2021-25740)
        let sentence = format!("Service {name} is of type ExternalName, which no route sends to");
        return Err(("InvalidKind", sentence));
    }
    let Some(found) = service.ports.iter().find(|known| known.port == port) else {
        return Err(("BackendNotFound", format!("Service {name} has no TCP port {port}")));
    };
    if found.app_protocol == AppProtocol::Opaque {
        let sentence = format!("the `appProtocol` of port {port} of Service {name} is not HTTP in plain text");
        return Err(("UnsupportedProtocol", sentence));
    }
    Ok((service, found))
}
