//! Which endpoint is next: one file per algorithm. Each is pure given its tables, live state, the random numbers and the time that it is handed.

mod hash;
mod random;
mod power_of_two;
mod peak_ewma;
mod least_request;
mod round_robin;
mod schedule;
mod weighted_round_robin;
mod consistent;
mod ring_hash;
mod maglev;
#[cfg(test)]
mod tests;

use std::{sync::Arc, time::Instant};

use super::live::EndpointLive;
use crate::model::{HashKey, LoadBalancer, UpstreamEndpoint};

pub(super) use hash::hash;

use consistent::Basis;
use maglev::Maglev;
use ring_hash::Ring;
use round_robin::RoundRobin;
use weighted_round_robin::WeightedRoundRobin;

/// What is chosen from: the endpoints of one upstream, in the order of `Upstream::endpoints`.
pub(super) struct Choice<'a> {
    pub endpoints: &'a [Arc<EndpointLive>],
    /// Whether an endpoint may be chosen now (breaker, limits, not tried before). It is asked as little as the algorithm can do with.
    pub usable: &'a dyn Fn(usize) -> bool,
    /// [`hash`] of what `RingHash` and `Maglev` go by; none: absent, they choose at random then.
    pub key: Option<u64>,
    pub rng: &'a mut fastrand::Rng,
    pub now: Instant,
}

/// How one upstream's endpoints are chosen from, with the tables and the state that this needs. Shared by all workers.
#[derive(Debug)]
pub(super) enum Balancer {
    RoundRobin(RoundRobin),
    WeightedRoundRobin(WeightedRoundRobin),
    LeastRequest,
    Random,
    PowerOfTwoChoices,
    PeakEwma,
    RingHash(HashKey, Arc<Ring>),
    Maglev(HashKey, Arc<Maglev>),
}

impl Balancer {
    /// `previous`: the balancer of the same upstream before this snapshot. Cursors and turns live on, and tables are taken over if nothing
    /// they depend on changed, so that the other changes of a Service cost no work.
    pub(super) fn new(policy: Option<&LoadBalancer>, endpoints: &[UpstreamEndpoint], previous: Option<&Self>) -> Self {
        match (policy.cloned().unwrap_or_default(), previous) {
            (LoadBalancer::RoundRobin, Some(Self::RoundRobin(previous))) => Self::RoundRobin(previous.clone()),
            (LoadBalancer::RoundRobin, _) => Self::RoundRobin(RoundRobin::default()),
            (LoadBalancer::WeightedRoundRobin, Some(Self::WeightedRoundRobin(previous))) => {
                Self::WeightedRoundRobin(WeightedRoundRobin::new(Basis::of(endpoints), Some(previous)))
            }
            (LoadBalancer::WeightedRoundRobin, _) => {
                Self::WeightedRoundRobin(WeightedRoundRobin::new(Basis::of(endpoints), None))
            }
            (LoadBalancer::LeastRequest, _) => Self::LeastRequest,
            (LoadBalancer::Random, _) => Self::Random,
            (LoadBalancer::PowerOfTwoChoices, _) => Self::PowerOfTwoChoices,
            (LoadBalancer::PeakEwma, _) => Self::PeakEwma,
            (LoadBalancer::RingHash(key), previous) => {
                let previous = match previous {
                    Some(Self::RingHash(_, ring)) => Some(ring),
                    _ => None,
                };
                Self::RingHash(key, Ring::shared(Basis::of(endpoints), previous))
            }
            (LoadBalancer::Maglev(key), previous) => {
                let previous = match previous {
                    Some(Self::Maglev(_, table)) => Some(table),
                    _ => None,
                };
                Self::Maglev(key, Maglev::shared(Basis::of(endpoints), previous))
            }
        }
    }

    /// The endpoint's index; none if none is usable.
    pub(super) fn pick(&self, mut choice: Choice<'_>) -> Option<usize> {
        let choice = &mut choice;
        match self {
            Self::RoundRobin(cursor) => cursor.pick(choice),
            Self::WeightedRoundRobin(turns) => turns.pick(choice),
            Self::LeastRequest => least_request::pick(choice),
            Self::Random => random::pick(choice, None),
            Self::PowerOfTwoChoices => power_of_two::pick(choice),
            Self::PeakEwma => peak_ewma::pick(choice),
            Self::RingHash(_, ring) => ring.pick(choice),
            Self::Maglev(_, table) => table.pick(choice),
        }
    }

    /// As [`Self::pick`], for a request that was tried before. Round robins draw at random, by weight: were a turn spent on every try, the
    /// clients of a Service with one dead endpoint of two would all meet that one first, instead of every second.
    pub(super) fn pick_again(&self, mut choice: Choice<'_>) -> Option<usize> {
        match self {
            Self::RoundRobin(_) => random::pick(&mut choice, None),
            Self::WeightedRoundRobin(turns) => turns.draw(&mut choice),
            _ => self.pick(choice),
        }
    }

    /// Whether latencies matter to it.
    pub(super) fn goes_by_latency(&self) -> bool {
        matches!(self, Self::PeakEwma)
    }

    /// What of a request decides its endpoint, if that is what this balancer goes by.
    pub(super) fn hash_key(&self) -> Option<&HashKey> {
        match self {
            Self::RingHash(key, _) | Self::Maglev(key, _) => Some(key),
            _ => None,
        }
    }
}
