//! What is true now and not in any object: live state of Services and endpoints, kept across snapshots. Published together with the snapshot.

mod endpoint;
mod in_flight;
mod latency;
mod service;
#[cfg(test)]
mod tests;

use std::{collections::HashMap, net::SocketAddr, sync::Arc, time::Instant};

use super::{
    balance::Balancer,
    breaker::{self, State, Transition},
};
use crate::model::{Snapshot, Upstream};

pub(super) use endpoint::EndpointLive;
pub(super) use in_flight::InFlight;
pub(super) use service::ServiceLive;

use service::Services;

/// One view of the world: what the objects say, and the live state that belongs to it.
#[derive(Debug)]
pub(super) struct Tables {
    /// What the objects say.
    pub snapshot: Arc<Snapshot>,
    /// By the address of the `Upstream` that each group holds.
    groups: HashMap<usize, Arc<Group>>,
    services: Arc<Services>,
}

/// One upstream with what is live of it: what a balancer chooses from.
#[derive(Debug)]
pub(super) struct Group {
    /// What the objects say.
    pub upstream: Arc<Upstream>,
    /// Its Service, shared with its other ports and families.
    pub service: Arc<ServiceLive>,
    /// In the order of `upstream.endpoints`.
    pub endpoints: Vec<Arc<EndpointLive>>,
    /// Who chooses among them.
    pub balancer: Balancer,
}

impl Tables {
    /// The tables of `snapshot`. What stays keeps its live state; an upstream that did not change at all keeps its group as it is, so that
    /// a change of one among thousands stays cheap. Only one at a time may follow the same `previous`.
    pub(super) fn next(snapshot: Arc<Snapshot>, previous: Option<&Self>) -> Self {
        let services = previous
            .map(|previous| Arc::clone(&previous.services))
            .unwrap_or_default();
        services.prune();
        let now = Instant::now();
        let content = &snapshot.content;
        let mut groups = HashMap::with_capacity(content.upstreams.len() + content.backends.len());
        for upstream in content.upstreams.values().chain(content.backends.values()) {
            groups.entry(key(upstream)).or_insert_with(|| {
                let kept = previous.and_then(|previous| previous.group(upstream)).cloned();
                kept.unwrap_or_else(|| Group::next(upstream, &services, now))
            });
        }
        Self {
            groups,
            services,
            snapshot,
        }
    }

    /// The group of an upstream of this snapshot, found by the upstream's address in memory: no string is hashed for a request. That is
    /// sound, because the group holds its `Arc<Upstream>`: while these tables live, nothing else can be at that address, and an upstream of
    /// another snapshot is found only if this one shares it. An equal upstream in another `Arc` has none.
    pub(super) fn group(&self, upstream: &Arc<Upstream>) -> Option<&Arc<Group>> {
        self.groups.get(&key(upstream))
    }

    /// Closes what was open of upstreams whose policy breaks no circuits any more, at once and not with their next request, and tells each.
    pub(super) fn forgive(&self, previous: &Self, mut tell: impl FnMut(&Upstream, SocketAddr, Transition)) {
        for group in self.groups() {
            if previous.group(&group.upstream).is_none() {
                group.forgive(&mut tell);
            }
        }
    }

    /// All groups, in no order.
    pub(super) fn groups(&self) -> impl Iterator<Item = &Arc<Group>> {
        self.groups.values()
    }
}

impl Group {
    /// Without a policy that breaks circuits none is open.
    fn forgive(&self, tell: &mut impl FnMut(&Upstream, SocketAddr, Transition)) {
        if self.upstream.spec().is_some_and(|spec| spec.circuit_breaker.is_some()) {
            return;
        }
        for endpoint in &*self.endpoints {
            if let Some(transition) = endpoint.breaker.forget() {
                tell(&self.upstream, endpoint.address, transition);
            }
        }
    }

    /// Whether one more endpoint may be ejected: asked of the breaker that is about to open, so no other is changed meanwhile by this one.
    pub(super) fn may_eject(&self, percent: u8) -> bool {
        let ejected = self
            .endpoints
            .iter()
            .filter(|endpoint| endpoint.breaker.state() != State::Closed);
        breaker::may_eject(percent, ejected.count(), self.endpoints.len())
    }

    fn next(upstream: &Arc<Upstream>, services: &Services, now: Instant) -> Arc<Self> {
        let service = services.service(&upstream.service);
        let previous = service.group(upstream);
        let policy = upstream.spec().and_then(|spec| spec.load_balancer.as_ref());
        let group = Arc::new(Self {
            endpoints: service.endpoints(upstream, now),
            balancer: Balancer::new(
                policy,
                &upstream.endpoints,
                previous.as_ref().map(|group| &group.balancer),
            ),
            upstream: Arc::clone(upstream),
            service,
        });
        group.service.set_group(&group);
        group
    }
}

fn key(upstream: &Arc<Upstream>) -> usize {
    Arc::as_ptr(upstream).addr()
}
