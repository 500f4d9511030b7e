//! Live state of one endpoint of one Service, shared by all workers and by all the Service's ports and families that lead to it.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use super::latency::{Latency, PENALTY};
use crate::proxy::{breaker::Breaker, limits::Gauge};

/// What is known of one endpoint, of this node's own making.
#[derive(Debug)]
pub(in crate::proxy) struct EndpointLive {
    /// Where it is.
    pub(in crate::proxy) address: SocketAddr,
    /// HTTP requests in flight, from the choice of the endpoint to the end of the answer's body.
    pub(in crate::proxy) requests: Gauge,
    /// Opaque connections open, from the choice of the endpoint on. Connections that carry HTTP are not among them.
    pub(in crate::proxy) opaque: Gauge,
    /// Connections that are in use or being opened; those that idle in pools are not.
    pub(in crate::proxy) connections: Gauge,
    /// Whether it may be asked.
    pub(in crate::proxy) breaker: Breaker,
    pub(super) latency: Latency,
}

impl EndpointLive {
    /// Without any load or sample.
    pub(in crate::proxy) fn new(address: SocketAddr, now: Instant) -> Self {
        Self {
            address,
            requests: Gauge::default(),
            opaque: Gauge::default(),
            connections: Gauge::default(),
            breaker: Breaker::default(),
            latency: Latency::new(now),
        }
    }

    /// What is in flight: requests, and opaque connections, each of which counts as one.
    pub(in crate::proxy) fn load(&self) -> u32 {
        self.requests.current().saturating_add(self.opaque.current())
    }

    /// What `PeakEwma` compares: seconds that the next request is expected to take behind those in flight.
    pub(in crate::proxy) fn cost(&self, now: Instant) -> f64 {
        self.latency.expected(now).as_secs_f64() * (f64::from(self.load()) + 1.0)
    }
}

impl EndpointLive {
    /// An attempt ended after so long without an answer, by the endpoint's own doing.
    pub(in crate::proxy) fn failed(&self, after: Duration, now: Instant) {
        self.latency.observe(after.max(PENALTY), now);
    }

    /// A sample of the latency that no [`super::InFlight`] saw.
    #[cfg(test)]
    pub(in crate::proxy) fn observe(&self, latency: Duration, now: Instant) {
        self.latency.observe(latency, now);
    }

    /// Time to the head of an answer: its moving average, faded to `now`, failures counted; none before the first of either.
    pub(in crate::proxy) fn latency(&self, now: Instant) -> Option<Duration> {
        self.latency.average(now)
    }

    /// That average as its last sample left it, and the sample's age at `now`; none before the first answer.
    pub(in crate::proxy) fn measured_latency(&self, now: Instant) -> Option<(Duration, Duration)> {
        self.latency.measured(now)
    }

    /// What counts as its latency until the first answer: the kernel's smoothed round-trip time, if it is known.
    pub(in crate::proxy) fn set_first_latency(&self, latency: Duration) {
        self.latency.set_first(latency);
    }
}
