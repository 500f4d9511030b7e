//! Which interfaces belong to pods, and whether capture is on for them.

use crate::addr::Addr;

/// The pod behind this interface is captured: its connections into the mesh are steered to the daemon.
pub const IFACE_CAPTURED: u32 = 1;

/// Most local pods' interfaces. Kubernetes' default is 110 pods per node, large nodes run 500; 4096 leaves room.
pub const IFACES_MAX: u32 = 4096;
/// Most pod ranges: one or two per node of the cluster; 16384 serves 5,000 nodes with both families.
pub const POD_RANGES_MAX: u32 = 16384;
/// Most addresses of the node itself.
pub const NODE_ADDRS_MAX: u32 = 1024;

/// A local pod's host-side interface.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Iface {
    /// [`IFACE_CAPTURED`] or 0.
    pub flags: u32,
    /// The pod's IPv4 address, or none.
    pub addr4: Addr,
    /// The pod's IPv6 address, or none.
    pub addr6: Addr,
}

impl Iface {
    /// Whether capture is on.
    #[inline(always)]
    pub const fn captured(&self) -> bool {
        self.flags & IFACE_CAPTURED != 0
    }

    /// Whether the pod may send from this address: it is one of its own.
    #[inline(always)]
    pub fn owns(&self, source: &Addr) -> bool {
        let own = if source.is_v4() { &self.addr4 } else { &self.addr6 };
        !own.is_none() && own == source
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_owns_its_addresses_and_no_other() {
        let v4 = Addr::from_v4_word(u32::from_ne_bytes([10, 0, 0, 1]));
        let v6 = Addr::from_v6_words([1, 2, 3, 4]);
        let other = Addr::from_v4_word(u32::from_ne_bytes([10, 0, 0, 2]));
        let dual = Iface {
            flags: 0,
            addr4: v4,
            addr6: v6,
        };
        let single = Iface {
            flags: 0,
            addr4: v4,
            addr6: Addr::NONE,
        };
        for (iface, source, expected) in [
            (dual, v4, true),
            (dual, v6, true),
            (dual, other, false),
            (single, v6, false),
            (single, Addr::NONE, false),
            (Iface::default(), Addr::NONE, false),
        ] {
            assert_eq!(iface.owns(&source), expected, "{iface:?} {source:?}");
        }
    }
}
