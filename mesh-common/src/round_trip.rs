//! What the kernel's ear hears of the daemon's connections to endpoints: the smoothed round trip and the retransmitted segments of each.

use crate::{addr::Addr, settings::Settings};

/// Most endpoints that are remembered. A node dials a part of its cluster's endpoints; the largest cluster that is measured has 10,000.
/// A plain hash, not an LRU: what is gone the daemon removes, so that the map is full only where more endpoints are in use than it holds,
/// and then those that are in it are worth more than a change at every connection. What finds no place is counted.
pub const ROUND_TRIPS_MAX: u32 = 16_384;

/// An endpoint: the address that was dialled.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct EndpointKey {
    /// Its address.
    pub addr: Addr,
    /// Its port, host order, in 32 bits so that the key has no padding.
    pub port: u32,
}

/// What was heard of the connections to one endpoint, running and ended ones together.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct RoundTrip {
    /// Smoothed round trip in 1/8 µs, as the kernel has it for a connection ([`smooth`]); 0: not heard yet.
    pub smoothed: u64,
    /// Round trips that went into it.
    pub samples: u64,
    /// Segments that were sent again, those of handshakes among them.
    pub retransmits: u64,
}

impl RoundTrip {
    /// Nothing heard yet.
    pub const NONE: Self = Self {
        smoothed: 0,
        samples: 0,
        retransmits: 0,
    };
}

/// Units of [`RoundTrip::smoothed`] in a microsecond.
pub const UNITS_PER_MICRO: u64 = 8;
/// The sum of all samples in µs: the ear's own per-CPU array of `u64`, of which these are the indexes.
pub const HEARD_MICROS: u32 = 0;
/// Segments that were sent again.
pub const HEARD_RETRANSMITS: u32 = 1;
/// Connections whose endpoint found no place in the map.
pub const HEARD_NO_ROOM: u32 = 2;
/// The first of [`BUCKETS`] counts of samples by their size ([`bucket`]).
pub const HEARD_BUCKETS: u32 = 3;
/// Entries of that array.
pub const HEARD: u32 = HEARD_BUCKETS + BUCKETS;

/// Upper bound of the first bucket, in µs: less is a round trip inside of one node.
const BUCKET_FIRST_MICROS: u32 = 32;
/// Buckets: each bound is twice the one before, the last finite one is 1.05 s, and the last bucket has none.
pub const BUCKETS: u32 = 17;

/// The bucket that a sample of so many µs belongs to.
#[inline(always)]
pub const fn bucket(micros: u64) -> u32 {
    let mut over = micros.saturating_sub(1) / BUCKET_FIRST_MICROS as u64;
    let mut bucket = 0;
    // a binary search for the highest bit: the BPF target has no instruction for it
    if over >> 16 != 0 {
        return BUCKETS - 1;
    }
    if over >> 8 != 0 {
        over >>= 8;
        bucket += 8;
    }
    if over >> 4 != 0 {
        over >>= 4;
        bucket += 4;
    }
    if over >> 2 != 0 {
        over >>= 2;
        bucket += 2;
    }
    bucket += match over {
        0 => 0,
        1 => 1,
        _ => 2,
    };
    if bucket < BUCKETS { bucket } else { BUCKETS - 1 }
}

/// The upper bound of a bucket in µs; `None` for the last one, which has none.
pub const fn bucket_bound_micros(bucket: u32) -> Option<u32> {
    if bucket + 1 < BUCKETS {
        Some(BUCKET_FIRST_MICROS << bucket)
    } else {
        None
    }
}

/// An endpoint's round trip after one of its connections told its own, both in units. RFC 6298's weight of 1/8, over connections: the
/// last value alone would jump from one connection's to another's, which differ in age and path.
#[inline(always)]
pub const fn smooth(before: u64, sample: u64) -> u64 {
    if before == 0 {
        sample
    } else {
        before - before / 8 + sample / 8
    }
}

/// Whether the ear hears a connection that this node opened: it carries one of the daemon's marks for dials, and its network namespace is
/// the daemon's. Daemons of several nodes may share a cgroup, where each is asked for the others' connections too. `own` is 0 where the
/// kernel does not tell namespaces apart: nothing is heard.
#[inline(always)]
pub const fn hears(mark: u32, netns: u64, settings: &Settings, own: u64) -> bool {
    let mark = mark & settings.mark_mask;
    own != 0 && netns == own && (mark == settings.mark_transparent || mark == settings.mark_own)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_sample_counts_whole_and_later_ones_by_an_eighth() {
        for (before, sample, expected) in [
            (0, 800, 800),
            (800, 800, 800),
            (800, 1600, 900),
            (800, 0, 700),
            // smaller than the weight: nothing is lost but parts of a microsecond
            (7, 7, 7),
        ] {
            assert_eq!(smooth(before, sample), expected, "{before} {sample}");
        }
    }

    #[test]
    fn many_samples_lead_to_their_value_from_both_sides() {
        for start in [1u64, 1 << 30] {
            let end = (0..400).fold(start, |before, _| smooth(before, 8000));
            assert!(end.abs_diff(8000) <= UNITS_PER_MICRO, "{start} → {end}");
        }
    }

    #[test]
    fn a_sample_is_in_the_first_bucket_that_is_not_below_it() {
        for micros in (0..3000).chain((0..40).flat_map(|bit| [(1u64 << bit) - 1, 1 << bit, (1 << bit) + 1])) {
            let expected = (0..BUCKETS)
                .find(|bucket| bucket_bound_micros(*bucket).is_none_or(|bound| micros <= u64::from(bound)))
                .unwrap();
            assert_eq!(bucket(micros), expected, "{micros} µs");
        }
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
        assert_eq!(bucket_bound_micros(15), Some(1 << 20));
    }

    #[test]
    fn only_the_daemons_own_dials_are_heard() {
        let settings = Settings::DEFAULT_MARKS;
        for (mark, netns, own, expected) in [
            (0x2000, 7, 7, true),
            (0x3000, 7, 7, true),
            // others' bits do not matter
            (0x2000 | 0xffff_0000 | 0x4000, 7, 7, true),
            (0x1000, 7, 7, false),
            (0, 7, 7, false),
            (0x4000, 7, 7, false),
            // another node's daemon in the same cgroup
            (0x2000, 8, 7, false),
            (0x3000, 8, 7, false),
            // a kernel that tells no cookie
            (0x2000, 0, 0, false),
        ] {
            assert_eq!(hears(mark, netns, &settings, own), expected, "{mark:#x} {netns} {own}");
        }
    }
}
