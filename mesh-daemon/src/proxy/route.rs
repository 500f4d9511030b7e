//! Where a connection or request goes: pure, from one view of the tables.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use super::{balance::round_robin, dial, identify::Connection, live::Tables, outcome::Parties};
use crate::model::{AppProtocol, Snapshot, Upstream, Workload};

/// Where one connection or request may go. It holds the snapshot that it was made from, and uses no other to its end.
#[derive(Debug)]
pub struct Plan {
    snapshot: Arc<Snapshot>,
    client: IpAddr,
    destination: SocketAddr,
    /// The Service, if the destination is one.
    pub upstream: Option<Arc<Upstream>>,
    /// Where the round robin stood.
    turn: usize,
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
    Plan {
        client: connection.client.ip(),
        destination,
        upstream: tables.snapshot.content.upstream(destination).cloned(),
        turn: tables.live(destination).map_or(0, |live| live.turn()),
        snapshot: Arc::clone(&tables.snapshot),
    }
}

impl Plan {
    /// In the order in which they are tried, each once; none if the Service has no ready endpoint. Worked out one by one: nearly always the
    /// first accepts, and a Service may have a thousand.
    pub fn candidates(&self) -> impl Iterator<Item = Candidate> + '_ {
        let endpoints = self.upstream.as_ref().map_or(&[][..], |upstream| &upstream.endpoints);
        let of_service = round_robin::order(self.turn, endpoints.len())
            .map(|index| &endpoints[index])
            .map(|endpoint| self.candidate(endpoint.address, endpoint.workload.clone()));
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
