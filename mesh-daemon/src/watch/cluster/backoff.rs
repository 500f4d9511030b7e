//! How long to wait before the next attempt: exponential with full jitter, so that many nodes that lost the same server come back spread out.

use std::{
    hash::{BuildHasher as _, Hasher as _, RandomState},
    time::Duration,
};

/// Bound of the first wait. A watch that broke by chance is back within a second.
pub(super) const FIRST_MAX: Duration = Duration::from_secs(1);
/// Bound of every wait. Five watches of 1,000 nodes make some 330 attempts a second then, which a starting API server can refuse cheaply; and
/// a server that is back is noticed within half a minute.
const WAIT_MAX: Duration = Duration::from_secs(30);
/// Longest wait that a server may ask for by itself.
const ASKED_MAX: Duration = Duration::from_secs(60);
/// A watch that stood this long was healthy: what failed before it says nothing about the next attempt. Twice the longest wait, so that a
/// server that accepts and drops watches all the time is not taken for a healthy one.
const HEALTHY_AFTER: Duration = Duration::from_secs(60);
/// Doublings after which the bound is reached in any case.
const DOUBLINGS_MAX: u32 = 16;

/// Counts failures of one watch.
#[derive(Debug)]
pub(super) struct Backoff {
    failures: u32,
    first_max: Duration,
}

impl Backoff {
    /// `first_max` bounds the first wait: [`FIRST_MAX`], or less for tests.
    pub(super) fn starting_at(first_max: Duration) -> Self {
        Self { failures: 0, first_max }
    }

    /// The wait after one more failure: `healthy` is how long the watch stood before it, `asked` what the server asked for, `random` any number.
    pub(super) fn failed(&mut self, healthy: Duration, asked: Option<Duration>, random: u64) -> Duration {
        if healthy >= HEALTHY_AFTER {
            self.failures = 0;
        }
        let bound = self
            .first_max
            .saturating_mul(1 << self.failures.min(DOUBLINGS_MAX))
            .min(WAIT_MAX);
        self.failures = self.failures.saturating_add(1);
        let asked = asked.unwrap_or_default().min(ASKED_MAX);
        // what the server asks for is kept, and the jitter comes on top: all were asked the same
        asked + share(bound, random)
    }
}

/// A part of `bound`, evenly spread over `random`.
pub(super) fn share(bound: Duration, random: u64) -> Duration {
    let nanos = u64::try_from(bound.as_nanos()).unwrap_or(u64::MAX);
    let part = (u128::from(nanos) * u128::from(random)) >> 64;
    Duration::from_nanos(u64::try_from(part).unwrap_or(nanos))
}

/// Numbers that differ from process to process: good enough to spread attempts, and for nothing else (xorshift64*, Vigna 2014).
#[derive(Debug)]
pub(super) struct Random(u64);

impl Random {
    /// Seeded by the operating system.
    pub(super) fn new() -> Self {
        // the hasher's keys are random for each call
        Self(RandomState::new().build_hasher().finish() | 1)
    }

    /// Always the same numbers, for tests.
    #[cfg(test)]
    pub(super) fn seeded(seed: u64) -> Self {
        // any odd factor spreads small seeds; 0 would stay 0
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOP: u64 = u64::MAX;

    #[test]
    fn bounds_double_up_to_the_longest_and_start_again_after_health() {
        let mut backoff = Backoff::starting_at(FIRST_MAX);
        let seconds = |wait: Duration| wait.as_secs_f64().round();
        for (healthy, asked, bound) in [
            (0, None, 1.0),
            (0, None, 2.0),
            (59, None, 4.0),
            (0, None, 8.0),
            (0, None, 16.0),
            (0, None, 30.0),
            (0, None, 30.0),
            (0, Some(5), 35.0),
            (0, Some(3600), 90.0),
            (60, None, 1.0),
            (0, None, 2.0),
        ] {
            let asked = asked.map(Duration::from_secs);
            let wait = backoff.failed(Duration::from_secs(healthy), asked, TOP);
            assert!((seconds(wait) - bound).abs() < f64::EPSILON, "{wait:?} is not {bound}");
        }
        let mut backoff = Backoff {
            failures: u32::MAX,
            ..Backoff::starting_at(FIRST_MAX)
        };
        assert_eq!(backoff.failed(Duration::ZERO, None, 0), Duration::ZERO);
    }

    #[test]
    fn a_thousand_nodes_spread_evenly() {
        let mut tenths = [0_u32; 10];
        for _ in 0..1000 {
            let (mut backoff, mut random) = (Backoff::starting_at(FIRST_MAX), Random::new());
            backoff.failures = 10;
            let wait = backoff.failed(Duration::ZERO, None, random.next());
            assert!(wait <= WAIT_MAX);
            let tenth = wait.as_millis() * 10 / (WAIT_MAX.as_millis() + 1);
            tenths[usize::try_from(tenth).unwrap()] += 1;
        }
        // 100 each are expected; 50 is five standard deviations away
        assert!(tenths.iter().all(|count| (50..=150).contains(count)), "{tenths:?}");
    }
}
