//! Places: how many connections a worker carries, in all and for one client.

use std::{cell::RefCell, collections::HashMap, net::IpAddr, rc::Rc, sync::Arc};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// A worker's places.
pub(super) struct Places {
    all: Arc<Semaphore>,
    count: u32,
    per_client: u32,
    by_client: RefCell<HashMap<IpAddr, u32>>,
}

/// A connection's place; free again when it is dropped.
pub(super) struct Place {
    client: IpAddr,
    places: Rc<Places>,
    _permit: OwnedSemaphorePermit,
}

impl Places {
    /// So many in all, and so many for one client.
    pub(super) fn new(count: u32, per_client: u32) -> Rc<Self> {
        Rc::new(Self {
            all: Arc::new(Semaphore::new(count as usize)),
            count,
            per_client,
            by_client: RefCell::default(),
        })
    }

    /// The right to one of them, if one is free.
    pub(super) fn try_permit(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.all).try_acquire_owned().ok()
    }

    /// The right to one of them; waits while all are taken.
    pub(super) async fn permit(&self) -> Option<OwnedSemaphorePermit> {
        // a closed semaphore cannot happen
        Arc::clone(&self.all).acquire_owned().await.ok()
    }

    /// Waits until every place is free.
    pub(super) async fn all_free(&self) {
        let _ = self.all.acquire_many(self.count).await;
    }

    /// The place itself; `None` if the client has its share already.
    pub(super) fn take(self: &Rc<Self>, permit: OwnedSemaphorePermit, client: IpAddr) -> Option<Place> {
        let mut by_client = self.by_client.borrow_mut();
        let taken = by_client.entry(client).or_default();
        if *taken >= self.per_client {
            return None;
        }
        *taken += 1;
        Some(Place {
            client,
            places: Rc::clone(self),
            _permit: permit,
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut by_client = self.places.by_client.borrow_mut();
        if let Some(taken) = by_client.get_mut(&self.client) {
            *taken -= 1;
            if *taken == 0 {
                by_client.remove(&self.client);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_client_never_takes_the_others_places() {
        let places = Places::new(4, 2);
        let [greedy, other]: [IpAddr; 2] = ["10.0.0.1", "10.0.0.2"].map(|ip| ip.parse().unwrap());
        let take = |client| places.try_permit().and_then(|permit| places.take(permit, client));
        let held = [take(greedy), take(greedy)];
        assert!(held.iter().all(Option::is_some));
        assert!(take(greedy).is_none(), "it has its share");
        let others = [take(other), take(other)];
        assert!(others.iter().all(Option::is_some));
        assert!(places.try_permit().is_none(), "all are taken");
        drop(held);
        assert!(take(greedy).is_some());
        drop(others);
        assert!(
            places.by_client.borrow().is_empty(),
            "nobody is remembered who holds nothing"
        );
        places.all_free().await;
    }
}
