//! Live state of one endpoint of one Service, shared by all workers and by all the Service's ports and families that lead to it.

use std::{
    net::SocketAddr,
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use super::latency::Latency;

/// What is known of one endpoint, of this node's own making.
#[derive(Debug)]
pub(in crate::proxy) struct EndpointLive {
    /// Where it is.
    pub(in crate::proxy) address: SocketAddr,
    /// HTTP requests in flight, from the choice of the endpoint to the end of the answer's body.
    pub(in crate::proxy) requests: AtomicU32,
    /// Opaque connections open, from the choice of the endpoint on. Connections that carry HTTP are not among them.
    pub(in crate::proxy) connections: AtomicU32,
    pub(super) latency: Latency,
}

impl EndpointLive {
    /// Without any load or sample.
    pub(in crate::proxy) fn new(address: SocketAddr, now: Instant) -> Self {
        Self {
            address,
            requests: AtomicU32::new(0),
            connections: AtomicU32::new(0),
            latency: Latency::new(now),
        }
    }

    /// What is in flight: requests, and opaque connections, each of which counts as one.
    pub(in crate::proxy) fn load(&self) -> u32 {
        // Relaxed: a count that is a moment old chooses as well as any other
        let requests = self.requests.load(Ordering::Relaxed);
        requests.saturating_add(self.connections.load(Ordering::Relaxed))
    }

    /// What `PeakEwma` compares: seconds that the next request is expected to take behind those in flight.
    pub(in crate::proxy) fn cost(&self, now: Instant) -> f64 {
        self.latency.expected(now).as_secs_f64() * (f64::from(self.load()) + 1.0)
    }
}

#[cfg_attr(
    not(test),
    expect(dead_code, reason = "the request's story does not report to it yet")
)]
impl EndpointLive {
    /// A sample of the latency that no [`super::InFlight`] saw: a timeout counts with the time that was waited.
    pub(in crate::proxy) fn observe(&self, latency: Duration, now: Instant) {
        self.latency.observe(latency, now);
    }

    /// Time to the head of an answer: its moving average, faded to `now`; none before the first answer.
    pub(in crate::proxy) fn latency(&self, now: Instant) -> Option<Duration> {
        self.latency.average(now)
    }

    /// What counts as its latency until the first answer: the kernel's smoothed round-trip time, if it is known.
    pub(in crate::proxy) fn set_first_latency(&self, latency: Duration) {
        self.latency.set_first(latency);
    }
}
