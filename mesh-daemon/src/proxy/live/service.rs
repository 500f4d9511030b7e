//! Live state of one Service, and where the next snapshot finds it again.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Instant,
};

use super::{EndpointLive, Group};
use crate::{
    ids::ObjectRef,
    model::{Family, Upstream},
    proxy::{budget::Budget, limits::Gauge},
};

/// What is known of one Service, of this node's own making; shared by all its ports and families.
#[derive(Debug, Default)]
pub(in crate::proxy) struct ServiceLive {
    /// HTTP requests in flight to its endpoints.
    pub(in crate::proxy) requests: Gauge,
    /// Connections to its endpoints that are in use or being opened; those that idle in pools are not.
    pub(in crate::proxy) connections: Gauge,
    /// Of retries of requests that were addressed to it.
    pub(in crate::proxy) budget: Budget,
    known: Mutex<Known>,
    ejecting: Mutex<()>,
}

/// What is in use, by any tables or any guard. Only the publisher looks here, so the lock is never waited for.
#[derive(Debug, Default)]
struct Known {
    endpoints: HashMap<SocketAddr, Weak<EndpointLive>>,
    groups: HashMap<(u16, Family), Weak<Group>>,
}

/// The Services that are in use, by any tables or any guard. One for all generations of tables; only the publisher looks here.
#[derive(Debug, Default)]
pub(super) struct Services {
    known: Mutex<HashMap<ObjectRef, Weak<ServiceLive>>>,
}

impl Services {
    /// The Service's live state, as long as anything uses it; else a new one.
    pub(super) fn service(&self, name: &ObjectRef) -> Arc<ServiceLive> {
        let mut known = lock(&self.known);
        if let Some(service) = known.get(name).and_then(Weak::upgrade) {
            return service;
        }
        let service = Arc::new(ServiceLive::default());
        known.insert(name.clone(), Arc::downgrade(&service));
        service
    }

    /// Names that are known.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        lock(&self.known).len()
    }

    /// Forgets the names of what nothing uses any more.
    pub(super) fn prune(&self) {
        lock(&self.known).retain(|_, service| service.strong_count() > 0);
    }
}

impl ServiceLive {
    /// Held while a breaker of an endpoint may open: how many are open already must not change meanwhile.
    pub(in crate::proxy) fn ejecting(&self) -> MutexGuard<'_, ()> {
        lock(&self.ejecting)
    }

    /// The live state of an upstream's endpoints, in their order: what it was for those that are in use, new for the others.
    pub(super) fn endpoints(&self, upstream: &Upstream, now: Instant) -> Vec<Arc<EndpointLive>> {
        let mut known = lock(&self.known);
        known.endpoints.retain(|_, endpoint| endpoint.strong_count() > 0);
        let addresses = upstream.endpoints.iter().map(|endpoint| endpoint.address);
        addresses
            .map(|address| {
                let kept = known.endpoints.get(&address).and_then(Weak::upgrade);
                kept.unwrap_or_else(|| {
                    let new = Arc::new(EndpointLive::new(address, now));
                    known.endpoints.insert(address, Arc::downgrade(&new));
                    new
                })
            })
            .collect()
    }

    /// The group of this port and family that was made last, if anything uses it still.
    pub(super) fn group(&self, upstream: &Upstream) -> Option<Arc<Group>> {
        let known = lock(&self.known);
        known.groups.get(&(upstream.port, upstream.family))?.upgrade()
    }

    /// The next group of its port and family.
    pub(super) fn set_group(&self, group: &Arc<Group>) {
        let mut known = lock(&self.known);
        known.groups.retain(|_, group| group.strong_count() > 0);
        let key = (group.upstream.port, group.upstream.family);
        known.groups.insert(key, Arc::downgrade(group));
    }
}

/// A panic under the lock cannot leave these maps in a state that matters: entries are whole or absent.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
