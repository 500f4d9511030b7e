//! IP addresses as the maps hold them: 16 bytes in network order, IPv4 mapped (RFC 4291, 2.5.5.2). The only place with byte-order code.

/// Bits that an IPv4 prefix gains when its address is mapped into IPv6.
pub const V4_PREFIX_BITS: u32 = 96;

/// A 16-byte address in network order; IPv4 as `::ffff:a.b.c.d`. All zero means "none".
///
/// Four words instead of sixteen bytes, because the kernel half compares and copies it in registers.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Addr(pub [u32; 4]);

impl Addr {
    /// No address.
    pub const NONE: Self = Self([0; 4]);

    /// From the word that stands in an IPv4 header, as loaded (network order in memory).
    #[inline(always)]
    pub const fn from_v4_word(word: u32) -> Self {
        Self([0, 0, 0x0000_ffffu32.to_be(), word])
    }

    /// From the words that stand in an IPv6 header, as loaded (network order in memory).
    #[inline(always)]
    pub const fn from_v6_words(words: [u32; 4]) -> Self {
        Self(words)
    }

    /// The last word: for a mapped address the IPv4 address in network order.
    #[inline(always)]
    pub const fn v4_word(&self) -> u32 {
        self.0[3]
    }

    /// Whether it is an IPv4 address.
    #[inline(always)]
    pub const fn is_v4(&self) -> bool {
        self.0[0] == 0 && self.0[1] == 0 && self.0[2] == 0x0000_ffffu32.to_be()
    }

    /// Whether it stands for "no address".
    #[inline(always)]
    pub const fn is_none(&self) -> bool {
        self.0[0] == 0 && self.0[1] == 0 && self.0[2] == 0 && self.0[3] == 0
    }
}

/// A port as it stands in a TCP header (loaded, network order in memory) → host order.
#[inline(always)]
pub const fn port_from_wire(port: u16) -> u16 {
    u16::from_be(port)
}

/// A port as it stands in a socket program's 32-bit context field, network order in the word → host order.
#[inline(always)]
pub const fn port_from_wire_word(port: u32) -> u16 {
    // on a little-endian machine the kernel shifts the port's two bytes to the upper half, on a big-endian one it leaves them below:
    // either way the bytes of the word end in the port
    let [_, _, high, low] = port.to_ne_bytes();
    u16::from_be_bytes([high, low])
}

/// An EtherType as it stands in a frame (loaded, network order in memory) → host order.
#[inline(always)]
pub const fn ethertype_from_wire(ethertype: u16) -> u16 {
    u16::from_be(ethertype)
}

#[cfg(any(test, feature = "user"))]
mod user {
    use super::Addr;
    use std::net::{IpAddr, Ipv6Addr};

    impl From<IpAddr> for Addr {
        fn from(ip: IpAddr) -> Self {
            let octets = match ip {
                IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
                IpAddr::V6(v6) => v6.octets(),
            };
            let word = |i: usize| u32::from_ne_bytes([octets[i], octets[i + 1], octets[i + 2], octets[i + 3]]);
            Self([word(0), word(4), word(8), word(12)])
        }
    }

    impl From<Addr> for IpAddr {
        fn from(addr: Addr) -> Self {
            let mut octets = [0u8; 16];
            for (chunk, word) in octets.chunks_exact_mut(4).zip(addr.0) {
                chunk.copy_from_slice(&word.to_ne_bytes());
            }
            Ipv6Addr::from(octets).to_canonical()
        }
    }

    impl std::fmt::Display for Addr {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            if self.is_none() {
                f.write_str("-")
            } else {
                IpAddr::from(*self).fmt(f)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::IpAddr;
    use std::string::ToString;

    #[test]
    fn an_address_survives_the_way_there_and_back() {
        for text in ["10.96.0.1", "255.255.255.255", "fd00::1", "2001:db8::ffff:1", "fe80::1"] {
            let ip: IpAddr = text.parse().unwrap();
            assert_eq!(IpAddr::from(Addr::from(ip)), ip, "{text}");
            assert_eq!(Addr::from(ip).is_v4(), ip.is_ipv4(), "{text}");
            assert_eq!(Addr::from(ip).to_string(), text);
        }
    }

    #[test]
    fn header_words_and_parsed_addresses_are_the_same_bytes() {
        let word = u32::from_ne_bytes([10, 96, 0, 1]);
        assert_eq!(
            Addr::from_v4_word(word),
            Addr::from("10.96.0.1".parse::<IpAddr>().unwrap())
        );
        assert_eq!(Addr::from_v4_word(word).v4_word(), word);
    }

    #[test]
    fn a_port_is_read_from_the_end_of_a_words_bytes() {
        let word = u32::from_ne_bytes([0, 0, 0x1f, 0x90]);
        assert_eq!(port_from_wire_word(word), 8080);
    }

    #[test]
    fn none_is_neither_family() {
        assert!(Addr::NONE.is_none());
        assert!(!Addr::NONE.is_v4());
        assert_eq!(Addr::NONE.to_string(), "-");
    }
}
