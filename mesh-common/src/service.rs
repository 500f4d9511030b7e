//! Service addresses that capture steers to the daemon.

use crate::addr::Addr;

/// Most (address, port) pairs: 10,000 Services with three ports and both families.
pub const SERVICES_MAX: u32 = 65536;

/// A service's address and port.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct ServiceKey {
    /// The ClusterIP.
    pub addr: Addr,
    /// The service port, host order, in 32 bits so that the key has no padding.
    pub port: u32,
}

/// What the kernel half needs to know of a service: that it exists.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct ServiceValue {
    /// Ready endpoints when the entry was written; for people who dump the map. 0 only where a route stands: a service with neither is not steered, so
    /// that its clients get kube-proxy's own refusal.
    pub endpoints: u32,
}
