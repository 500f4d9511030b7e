//! A token bucket: how many requests a node may send.

use std::time::Duration;

use tokio::time::Instant;

/// Time in which one token of the requests about pods and Events grows. A request costs the API server about as much as a kubelet's; 1,000 nodes that have something to say
/// at once make 5,000 requests a second at most.
pub(super) const TOKEN_EVERY: Duration = Duration::from_millis(200);
/// Most tokens: a Deployment's pods on one node change together, and people who wait for them see it at once.
pub(super) const TOKENS_MAX: u32 = 20;

/// Tokens, and when the first of those that miss has grown.
#[derive(Debug)]
pub(super) struct Bucket {
    /// Time in which one token grows.
    every: Duration,
    /// Most tokens.
    most: u32,
    /// When the bucket will be full.
    full_at: Instant,
}

impl Bucket {
    /// A full one.
    pub(super) fn new(every: Duration, most: u32, now: Instant) -> Self {
        Self {
            every,
            most,
            full_at: now,
        }
    }

    /// Takes that many tokens, as many as it can hold at most, or none.
    ///
    /// # Errors
    /// When there will be as many, if there are fewer.
    pub(super) fn take(&mut self, tokens: u32, now: Instant) -> Result<(), Instant> {
        let full_at = self.full_at.max(now) + self.every * tokens;
        let free_at = full_at - self.every * self.most;
        if free_at > now {
            return Err(free_at);
        }
        self.full_at = full_at;
        Ok(())
    }
}
