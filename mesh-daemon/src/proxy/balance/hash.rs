//! The one hash of keys and endpoints. Its values are the same in every daemon and version: all nodes must choose alike, also while a new
//! version is rolled out. It withstands nobody who wants collisions: whoever writes a key chooses an endpoint anyway.

use std::net::{IpAddr, SocketAddr};

/// FNV-1a's offset and prime for 64 bits (RFC 9923, 5).
const FNV_OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
const FNV_PRIME: u64 = 0x0000_0100_0000_01b3;
/// The step of SplitMix64: 2⁶⁴ divided by the golden ratio.
pub(super) const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// FNV-1a, and a finalizer, since FNV alone leaves the high bits of short keys nearly alike, and the ring goes by these.
pub(in crate::proxy) fn hash(bytes: &[u8]) -> u64 {
    let fnv = bytes.iter().fold(FNV_OFFSET, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(FNV_PRIME)
    });
    mix(fnv)
}

/// The finalizer of SplitMix64 (Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators, OOPSLA 2014): a bijection in which
/// each bit of the input turns half of the output's.
pub(super) fn mix(mut bits: u64) -> u64 {
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

/// Of an endpoint's address.
pub(super) fn of_address(address: SocketAddr) -> u64 {
    let ip = match address.ip() {
        IpAddr::V4(ip) => ip.to_ipv6_mapped(),
        IpAddr::V6(ip) => ip,
    };
    let mut bytes = [0; 18];
    bytes[..16].copy_from_slice(&ip.octets());
    bytes[16..].copy_from_slice(&address.port().to_be_bytes());
    hash(&bytes)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_values_never_change() {
        // another daemon, of another version, must say the same
        assert_eq!(hash(b""), mix(FNV_OFFSET));
        assert_eq!(
            hash(b"foobar"),
            mix(0x8594_4171_f739_67e8),
            "FNV-1a of RFC 9923's test vector"
        );
        assert_eq!(
            mix(GOLDEN),
            0xe220_a839_7b1d_cdaf,
            "the first output of SplitMix64 with seed 0"
        );
        assert_eq!(
            of_address("10.0.0.1:80".parse().unwrap()),
            of_address("[::ffff:10.0.0.1]:80".parse().unwrap())
        );
    }

    #[test]
    fn addresses_that_are_alike_have_hashes_that_are_not() {
        let top_bits: BTreeSet<_> = (0..=255u8)
            .map(|last| of_address(SocketAddr::from(([10, 0, 0, last], 8080))) >> 52)
            .collect();
        // 256 draws of 4096 values: 248 distinct are expected, with a deviation of 2.7; fewer than 230 come once in 10¹¹ tries
        assert!(top_bits.len() > 230, "{}", top_bits.len());
    }
}
