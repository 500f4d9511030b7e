//! Where a connection or request goes: pure, from one view of the tables.

use std::{net::SocketAddr, sync::Arc};

use super::{balance::round_robin, dial, identify::Connection, live::Tables, outcome::Parties};
use crate::model::{AppProtocol, Upstream, Workload};

/// Where one connection or request may go, in the order in which it is tried.
#[derive(Debug)]
pub(super) struct Plan {
    /// The Service, if the destination is one.
    pub upstream: Option<Arc<Upstream>>,
    /// Each candidate once; empty if the Service has no ready endpoint.
    pub candidates: Vec<Candidate>,
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
pub(super) fn plan(tables: &Tables, connection: &Connection) -> Plan {
    let content = &tables.snapshot.content;
    let candidate = |address: SocketAddr, workload: Option<Arc<Workload>>| Candidate {
        address,
        workload,
        source: dial::source(content, connection.client.ip(), address.ip()),
    };
    let Some(upstream) = content.upstreams.get(&connection.destination) else {
        let workload = content.workloads.get(&connection.destination.ip()).cloned();
        return Plan {
            upstream: None,
            candidates: vec![candidate(connection.destination, workload)],
        };
    };
    let turn = tables.live(connection.destination).map_or(0, |live| live.turn());
    let candidates = round_robin::order(turn, upstream.endpoints.len())
        .map(|index| &upstream.endpoints[index])
        .map(|endpoint| candidate(endpoint.address, endpoint.workload.clone()))
        .collect();
    Plan {
        upstream: Some(Arc::clone(upstream)),
        candidates,
    }
}

impl Plan {
    /// Who takes part, as far as it is known before an endpoint is connected.
    pub(super) fn parties(&self, connection: &Connection) -> Parties {
        Parties {
            source: connection.source.clone(),
            destination: None,
            service: self.upstream.clone(),
        }
    }
}
