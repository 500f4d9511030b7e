//! What people are shown of endpoints: live state as plain values. Field names are those of the JSON at the admin socket; once given they stay.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};

use super::{
    Shared,
    breaker::State,
    live::{EndpointLive, Group, Tables},
};
use crate::{
    ids::{NodeName, ObjectRef},
    model::{Family, NoSuchService, UpstreamEndpoint, balancer_name, services},
};

/// The answer to `/endpoints`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EndpointsView {
    /// Generation of the snapshot that it was taken from.
    pub snapshot: u64,
    /// The Service.
    pub service: ObjectRef,
    /// HTTP requests in flight to all its endpoints, from this node.
    pub requests_in_flight: u32,
    /// Connections to all its endpoints from this node, in use or being opened; those that idle in pools are not among them.
    pub connections: u32,
    /// By port, then by family.
    pub ports: Vec<PortView>,
}

/// One port of a Service, in one address family.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PortView {
    /// The Service's port.
    pub port: u16,
    /// `IPv4` or `IPv6`.
    pub family: String,
    /// `loadBalancer.type`.
    pub load_balancer: String,
    /// Its ready endpoints in the order of their addresses.
    pub endpoints: Vec<EndpointView>,
}

/// One endpoint, as this node knows it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EndpointView {
    /// Where it is.
    pub address: SocketAddr,
    /// The pod that owns the address, if one does.
    pub pod: Option<ObjectRef>,
    /// The pod's node.
    pub node: Option<NodeName>,
    /// 1 to 1000; used by `WeightedRoundRobin` alone.
    pub weight: u16,
    /// `ready`, `ejected` while its breaker is open, `trial` while that is half open.
    pub state: String,
    /// Its circuit breaker; none where the policy has none.
    pub breaker: Option<BreakerView>,
    /// HTTP requests in flight.
    pub requests_in_flight: u32,
    /// Opaque connections open.
    pub opaque_connections: u32,
    /// Connections in use or being opened; those that idle in pools are not among them.
    pub connections: u32,
    /// The peak-sensitive moving average of the time to an answer's head, in milliseconds, failures counted, as its last sample left it; none before the first
    /// of either.
    pub latency_ms: Option<f64>,
    /// How long ago that sample was, in milliseconds: of an endpoint that is asked and does not answer it grows.
    pub latency_age_ms: Option<f64>,
    /// The kernel's smoothed round trip in milliseconds; none where it heard nothing.
    pub round_trip_ms: Option<f64>,
    /// Segments that the kernel sent again; none where it heard nothing.
    pub retransmits: Option<u64>,
}

/// A circuit breaker.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BreakerView {
    /// `closed`, `half_open` or `open`.
    pub state: String,
    /// Failures in a row, while closed.
    pub failures: u32,
    /// Successful trials in a row, while half open.
    pub successes: u32,
    /// Milliseconds until trials are let through, while open; 0: the next request is one.
    pub open_for_ms: Option<f64>,
}

impl Shared {
    /// The endpoints of a Service, as this node knows them now.
    ///
    /// # Errors
    /// If there is no such Service.
    pub fn endpoints(&self, service: &ObjectRef) -> Result<EndpointsView, NoSuchService> {
        let tables = self.tables.load_full();
        let groups = groups(&tables, service);
        let content = &tables.snapshot.content;
        if groups.is_empty() && !services(content).contains(service) {
            return Err(NoSuchService::new(service, content));
        }
        let now = Instant::now();
        let live = groups.values().next().map(|group| &group.service);
        Ok(EndpointsView {
            snapshot: tables.snapshot.generation.0,
            service: service.clone(),
            requests_in_flight: live.map_or(0, |live| live.requests.current()),
            connections: live.map_or(0, |live| live.connections.current()),
            ports: groups.values().map(|group| self.port(group, now)).collect(),
        })
    }

    fn port(&self, group: &Group, now: Instant) -> PortView {
        let upstream = &group.upstream;
        let policy = upstream.spec().and_then(|spec| spec.load_balancer.as_ref());
        let endpoints = upstream.endpoints.iter().zip(&group.endpoints);
        PortView {
            port: upstream.port,
            family: match upstream.family {
                Family::V4 => "IPv4",
                Family::V6 => "IPv6",
            }
            .to_owned(),
            load_balancer: balancer_name(policy).to_owned(),
            endpoints: endpoints
                .map(|(known, live)| self.endpoint(group, known, live, now))
                .collect(),
        }
    }

    fn endpoint(&self, group: &Group, known: &UpstreamEndpoint, live: &EndpointLive, now: Instant) -> EndpointView {
        let workload = known.workload.as_ref();
        let heard = self.borders.ear.round_trip(live.address);
        let latency = live.measured_latency(now);
        EndpointView {
            address: live.address,
            pod: workload.map(|workload| workload.pod.clone()),
            node: workload.and_then(|workload| workload.node.clone()),
            weight: known.weight(),
            state: match live.breaker.state() {
                State::Closed => "ready",
                State::HalfOpen => "trial",
                State::Open => "ejected",
            }
            .to_owned(),
            breaker: breaker(group, live, now),
            requests_in_flight: live.requests.current(),
            opaque_connections: live.opaque.current(),
            connections: live.connections.current(),
            latency_ms: latency.map(|(average, _)| milliseconds(average)),
            latency_age_ms: latency.map(|(_, age)| milliseconds(age)),
            round_trip_ms: heard.map(|heard| milliseconds(heard.smoothed)),
            retransmits: heard.map(|heard| heard.retransmits),
        }
    }
}

fn breaker(group: &Group, live: &EndpointLive, now: Instant) -> Option<BreakerView> {
    let settings = group.upstream.spec()?.circuit_breaker.as_ref()?;
    let view = live.breaker.view(now);
    Some(BreakerView {
        state: view.state.name().to_owned(),
        failures: view.failures,
        successes: view.successes,
        open_for_ms: view.open_for(settings).map(milliseconds),
    })
}

/// To the microsecond: what is finer is noise, and longer to read.
pub(super) fn milliseconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).round() / 1e3
}

/// The groups of a Service by port and family, each once.
fn groups<'t>(tables: &'t Tables, service: &ObjectRef) -> BTreeMap<(u16, Family), &'t Arc<Group>> {
    let own = tables.groups().filter(|group| group.upstream.service == *service);
    own.map(|group| ((group.upstream.port, group.upstream.family), group))
        .collect()
}

/// The endpoints of all Services whose policy breaks circuits, each once: what a scrape tells is bounded by what users asked for.
pub(super) fn with_breakers(tables: &Tables) -> BTreeMap<(&ObjectRef, SocketAddr), &EndpointLive> {
    let breaks = |group: &&Arc<Group>| {
        let spec = group.upstream.spec();
        spec.is_some_and(|spec| spec.circuit_breaker.is_some())
    };
    let groups = tables.groups().filter(breaks);
    groups
        .flat_map(|group| {
            let service = &group.upstream.service;
            let endpoints = group.endpoints.iter();
            endpoints.map(move |endpoint| ((service, endpoint.address), &**endpoint))
        })
        .collect()
}

#[cfg(test)]
mod tests;
