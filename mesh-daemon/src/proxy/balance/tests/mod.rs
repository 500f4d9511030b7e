//! Balancers under a turned clock and seeded random numbers.
//!
//! Statistical tests: [`assert_share`] allows five standard deviations, which a right balancer exceeds once in 1.7 million comparisons; with
//! the 100 or so of this folder a seed taken at random would fail once in 17,000 tries. The seed is fixed, so what passes goes on passing.

mod figures;
mod keys;
mod loads;
mod policies;
mod schedule;
mod turns;

use std::{net::SocketAddr, sync::Arc, time::Instant};

use super::{Balancer, Choice};
use crate::{
    model::{HashKey, LoadBalancer, UpstreamEndpoint, Workload},
    proxy::live::EndpointLive,
};

const SEED: u64 = 5;
/// Standard deviations that a share may be off.
const DEVIATIONS: f64 = 5.0;

/// What a balancer is asked with.
struct World {
    endpoints: Vec<Arc<EndpointLive>>,
    rng: fastrand::Rng,
    now: Instant,
}

impl World {
    fn of(endpoints: &[UpstreamEndpoint]) -> Self {
        let now = Instant::now();
        let live = |endpoint: &UpstreamEndpoint| Arc::new(EndpointLive::new(endpoint.address, now));
        Self {
            endpoints: endpoints.iter().map(live).collect(),
            rng: fastrand::Rng::with_seed(SEED),
            now,
        }
    }

    fn equal(count: u16) -> Self {
        Self::of(&equal(count))
    }

    fn set_loads(&self, loads: &[u32]) {
        for (endpoint, load) in self.endpoints.iter().zip(loads) {
            (0..*load).for_each(|_| std::mem::forget(endpoint.requests.try_acquire(None)));
        }
    }

    fn pick(&mut self, balancer: &Balancer, key: Option<u64>, usable: impl Fn(usize) -> bool) -> Option<usize> {
        balancer.pick(Choice {
            endpoints: &self.endpoints,
            usable: &usable,
            key,
            rng: &mut self.rng,
            now: self.now,
        })
    }

    /// The same for a request that was tried before.
    fn pick_again(&mut self, balancer: &Balancer, usable: impl Fn(usize) -> bool) -> Option<usize> {
        balancer.pick_again(Choice {
            endpoints: &self.endpoints,
            usable: &usable,
            key: None,
            rng: &mut self.rng,
            now: self.now,
        })
    }

    /// How often each endpoint is chosen.
    fn counts(&mut self, balancer: &Balancer, picks: u32, usable: impl Fn(usize) -> bool) -> Vec<u32> {
        let mut counts = vec![0; self.endpoints.len()];
        for _ in 0..picks {
            let index = self.pick(balancer, None, &usable).unwrap();
            assert!(usable(index), "{index} is not usable");
            counts[index] += 1;
        }
        counts
    }
}

fn address(number: u16) -> SocketAddr {
    let [high, low] = number.to_be_bytes();
    SocketAddr::from(([10, 0, high, low], 8080))
}

fn endpoint(number: u16, weight: u16) -> UpstreamEndpoint {
    let workload = Workload {
        pod: crate::ids::ObjectRef::new("shop", format!("web-{number}")),
        uid: String::new(),
        name: "web".to_owned(),
        node: None,
        weight,
        interface: None,
    };
    UpstreamEndpoint {
        address: address(number),
        workload: Some(Arc::new(workload)),
    }
}

fn weighted(weights: &[u16]) -> Vec<UpstreamEndpoint> {
    (0..)
        .zip(weights)
        .map(|(number, weight)| endpoint(number, *weight))
        .collect()
}

fn equal(count: u16) -> Vec<UpstreamEndpoint> {
    (0..count).map(|number| endpoint(number, 1)).collect()
}

fn new(policy: &LoadBalancer, endpoints: &[UpstreamEndpoint]) -> Balancer {
    Balancer::new(Some(policy), endpoints, None)
}

fn by_header() -> HashKey {
    HashKey::Header("x-user".to_owned())
}

/// Every algorithm.
fn all() -> [LoadBalancer; 8] {
    [
        LoadBalancer::RoundRobin,
        LoadBalancer::WeightedRoundRobin,
        LoadBalancer::LeastRequest,
        LoadBalancer::Random,
        LoadBalancer::PowerOfTwoChoices,
        LoadBalancer::PeakEwma,
        LoadBalancer::RingHash(by_header()),
        LoadBalancer::Maglev(by_header()),
    ]
}

/// `count` of `picks` independent ones is what `probability` says, within five standard deviations.
#[track_caller]
fn assert_share(count: u32, picks: u32, probability: f64) {
    let expected = f64::from(picks) * probability;
    let deviation = (expected * (1.0 - probability)).sqrt();
    let off = (f64::from(count) - expected) / deviation.max(1e-9);
    assert!(
        off.abs() <= DEVIATIONS || f64::from(count) == expected,
        "{count} of {picks} is {off:.1} standard deviations off {expected:.0}"
    );
}
