//! How many connections and requests are under way, and the permits that keep them below `limits`. A counter goes up only with a [`Permit`] and down when that
//! is dropped, so that nothing can be forgotten.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

/// What is under way of one kind, at one Service or endpoint. It counts also where there is no limit, so that one that comes later knows what is there.
#[derive(Clone, Debug, Default)]
pub(super) struct Gauge {
    current: Arc<AtomicU32>,
}

/// One place in a [`Gauge`], given back when it is dropped. To need two, of the Service and of the endpoint, is to hold two; where the second is refused,
/// dropping the first undoes it.
#[derive(Debug)]
#[must_use = "the place is given back when this is dropped"]
pub(super) struct Permit {
    gauge: Arc<AtomicU32>,
}

impl Gauge {
    /// A place, unless `limit` are taken; none means no limit. Exact: however many ask at once, there are never more than `limit`. After a limit was lowered
    /// nothing is let through until enough has ended; nothing is cut off.
    pub(super) fn try_acquire(&self, limit: Option<u32>) -> Option<Permit> {
        let limit = limit.unwrap_or(u32::MAX);
        // a plain count guards no other memory
        let take = |current| (current < limit).then(|| current + 1);
        self.current
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, take)
            .ok()?;
        Some(Permit {
            gauge: Arc::clone(&self.current),
        })
    }

    /// Whether [`Gauge::try_acquire`] would give a place now; another may be faster.
    pub(super) fn has_place(&self, limit: Option<u32>) -> bool {
        limit.is_none_or(|limit| self.current() < limit)
    }

    /// How many are under way.
    pub(super) fn current(&self) -> u32 {
        self.current.load(Ordering::Relaxed)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.gauge.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::{mem, thread};

    use super::*;

    #[test]
    fn a_place_is_taken_until_it_is_dropped() {
        let gauge = Gauge::default();
        let first = gauge.try_acquire(Some(2)).unwrap();
        let _second = gauge.clone().try_acquire(Some(2)).unwrap();
        assert!(gauge.try_acquire(Some(2)).is_none() && !gauge.has_place(Some(2)));
        assert_eq!(gauge.current(), 2, "what is refused is not counted");
        drop(first);
        assert!(gauge.has_place(Some(2)));
        let _third = gauge.try_acquire(Some(2)).unwrap();
        assert_eq!(gauge.current(), 2);
        assert!(
            gauge.try_acquire(Some(0)).is_none(),
            "a limit of 0 lets nothing through"
        );
    }

    #[test]
    fn limits_come_and_go() {
        let gauge = Gauge::default();
        let mut permits: Vec<_> = (0..5).map(|_| gauge.try_acquire(None).unwrap()).collect();
        assert!(gauge.try_acquire(Some(5)).is_none(), "what came without a limit counts");
        assert!(gauge.try_acquire(Some(3)).is_none());
        permits.truncate(3);
        assert!(
            gauge.try_acquire(Some(3)).is_none(),
            "a lower limit waits for enough to end"
        );
        permits.truncate(2);
        permits.push(gauge.try_acquire(Some(3)).unwrap());
        permits.push(gauge.try_acquire(None).unwrap());
        assert_eq!(gauge.current(), 4, "without a limit again");
        permits.clear();
        assert_eq!(gauge.current(), 0);
    }

    #[test]
    fn a_place_of_the_service_is_given_back_where_the_endpoint_has_none() {
        let (service, endpoint) = (Gauge::default(), Gauge::default());
        let both = || Some((service.try_acquire(Some(9))?, endpoint.try_acquire(Some(1))?));
        let held = both();
        assert!(held.is_some() && both().is_none());
        assert_eq!((service.current(), endpoint.current()), (1, 1));
    }

    /// Two threads ask for one place at the same moment, to a few nanoseconds, again and again: if asking and taking were two steps, both would have it.
    #[test]
    fn threads_never_hold_more_than_the_limit() {
        const ROUNDS: u32 = 4_000;
        const SPINS: u32 = 5_000;
        let (gauge, arrived) = (Gauge::default(), Gauge::default());
        let meet = |meeting| {
            mem::forget(arrived.try_acquire(None));
            while arrived.current() < 2 * meeting {
                // where the machine is busy, the other one does not run at all
                if !(0..SPINS).any(|_| arrived.current() >= 2 * meeting) {
                    thread::yield_now();
                }
            }
        };
        let client = || {
            let round = |round: u32| {
                meet(2 * round + 1);
                let permit = gauge.try_acquire(Some(1));
                meet(2 * round + 2);
                u32::from(permit.is_some())
            };
            (0..ROUNDS).map(round).sum::<u32>()
        };
        let had = thread::scope(|scope| {
            let other = scope.spawn(client);
            client() + other.join().unwrap()
        });
        assert_eq!(had, ROUNDS, "one of both in each round");
        assert_eq!(gauge.current(), 0);
    }
}
