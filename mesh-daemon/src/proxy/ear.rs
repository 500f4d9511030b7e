//! What the kernel hears of endpoints: a border that `app` fills, and tests with silence.

use std::{net::SocketAddr, time::Duration};

/// What the kernel's TCP says of one endpoint, over all of this daemon's connections to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RoundTrip {
    /// The smoothed round-trip time (RFC 6298).
    pub smoothed: Duration,
    /// Segments that were sent again.
    pub retransmits: u64,
}

/// Tells what the kernel hears.
pub trait Ear: Send + Sync {
    /// Of an endpoint; none if it heard nothing yet, or does not listen.
    fn round_trip(&self, endpoint: SocketAddr) -> Option<RoundTrip>;
}

/// Hears nothing.
#[derive(Clone, Copy, Debug)]
pub struct Deaf;

impl Ear for Deaf {
    fn round_trip(&self, _endpoint: SocketAddr) -> Option<RoundTrip> {
        None
    }
}
