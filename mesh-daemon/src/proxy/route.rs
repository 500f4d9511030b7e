//! Where a connection or request goes: pure, from one view of the tables.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Instant,
};

use super::{
    balance::Choice,
    dial,
    identify::Connection,
    live::{Group, Tables},
    outcome::Parties,
};
use crate::model::{AppProtocol, Snapshot, Upstream, Workload};

/// Where one connection or request may go. It holds the snapshot that it was made from, and uses no other to its end.
#[derive(Debug)]
pub struct Plan {
    snapshot: Arc<Snapshot>,
    client: IpAddr,
    destination: SocketAddr,
    /// The Service, if the destination is one.
    pub upstream: Option<Arc<Upstream>>,
    /// The same with its live state.
    group: Option<Arc<Group>>,
}

/// One place to connect to.
#[derive(Clone, Debug)]
pub(super) struct Candidate {
    /// Its address.
    pub address: SocketAddr,
    /// The pod that owns it, if it is known.
    pub workload: Option<Arc<Workload>>,
    /// The address from which it is dialled.
    pub source: dial::Source,
}

/// What the destination's Service says about the protocol.
pub(super) fn hint(tables: &Tables, destination: SocketAddr) -> AppProtocol {
    tables
        .snapshot
        .content
        .upstreams
        .get(&destination)
        .map_or(AppProtocol::Detect, |upstream| upstream.app_protocol)
}

/// Chooses: an upstream's endpoints in turn, else the destination itself, be it a pod or unknown.
pub fn plan(tables: &Tables, connection: &Connection) -> Plan {
    let destination = connection.destination;
    let upstream = tables.snapshot.content.upstream(destination);
    Plan {
        client: connection.client.ip(),
        destination,
        upstream: upstream.cloned(),
        group: upstream.and_then(|upstream| tables.group(upstream)).cloned(),
        snapshot: Arc::clone(&tables.snapshot),
    }
}

impl Plan {
    /// In the order in which they are tried, each once; none if the Service has no ready endpoint. Worked out one by one: nearly always the
    /// first accepts, and a Service may have a thousand.
    pub fn candidates(&self) -> impl Iterator<Item = Candidate> + '_ {
        let mut tried = Vec::new();
        let of_service = std::iter::from_fn(move || {
            let group = self.group.as_ref()?;
            let index = group.balancer.pick(Choice {
                endpoints: &group.endpoints,
                usable: &|index| !tried.contains(&index),
                key: None,
                rng: &mut fastrand::Rng::new(),
                now: Instant::now(),
            })?;
            tried.push(index);
            let endpoint = &group.upstream.endpoints[index];
            Some(self.candidate(endpoint.address, endpoint.workload.clone()))
        });
        let itself = self.upstream.is_none().then(|| {
            let workload = self.snapshot.content.workload(self.destination.ip()).cloned();
            self.candidate(self.destination, workload)
        });
        of_service.chain(itself)
    }

    /// The pod that owns an endpoint's address, if it is known.
    pub fn owner(&self, endpoint: SocketAddr) -> Option<Arc<Workload>> {
        self.snapshot.content.workload(endpoint.ip()).cloned()
    }

    fn candidate(&self, address: SocketAddr, workload: Option<Arc<Workload>>) -> Candidate {
        Candidate {
            address,
            workload,
            source: dial::source(&self.snapshot.content, self.client, address.ip()),
        }
    }

    /// Who takes part, as far as it is known before an endpoint is connected.
    pub(super) fn parties(&self, connection: &Connection) -> Parties {
        Parties {
            source: connection.source.clone(),
            destination: None,
            service: self.upstream.clone(),
        }
    }
}
