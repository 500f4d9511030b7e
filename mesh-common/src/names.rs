//! Names that both halves and the node's administrator see: programs, maps. Written once.

/// TC ingress program of every local pod's host-side interface: what the pod sends.
pub const PROGRAM_FROM_POD: &str = "weft_from_pod";
/// TC ingress program of every other interface of the node's namespace but `lo`: what reaches the node from elsewhere.
pub const PROGRAM_FROM_NET: &str = "weft_from_net";
/// The same for interfaces whose packets have no link-layer header: tunnels, WireGuard.
pub const PROGRAM_FROM_NET_L3: &str = "weft_from_net_l3";
/// sk_lookup program of the node's namespace: the listener for a SYN that the stack takes up over a TIME_WAIT socket.
pub const PROGRAM_REOPEN: &str = "weft_reopen";
/// sockops program of the daemon's own cgroup: hears round trips and retransmits of its connections to endpoints.
pub const PROGRAM_EAR: &str = "weft_ear";

/// Host-side interface index → [`crate::capture::Iface`].
pub const MAP_IFACES: &str = "WEFT_IFACES";
/// [`crate::service::ServiceKey`] → [`crate::service::ServiceValue`]: service addresses that capture steers.
pub const MAP_SERVICES: &str = "WEFT_SERVICES";
/// Longest-prefix match over [`crate::addr::Addr`]: the cluster's pod ranges.
pub const MAP_POD_RANGES: &str = "WEFT_POD_RANGES";
/// [`crate::addr::Addr`] of the node itself → 1: never looked up, never marked.
pub const MAP_NODE_ADDRS: &str = "WEFT_NODE_ADDRS";
/// SOCKMAP of the daemon's transparent listeners, one slot per worker and family ([`crate::settings::listener_slot`]).
pub const MAP_LISTENERS: &str = "WEFT_LISTENERS";
/// One [`crate::settings::Settings`] at index 0.
pub const MAP_SETTINGS: &str = "WEFT_SETTINGS";
/// Per-CPU array of `u64`, indexed by [`crate::counter::Counter`].
pub const MAP_COUNTERS: &str = "WEFT_COUNTERS";
/// Ring buffer of [`crate::event::Event`].
pub const MAP_EVENTS: &str = "WEFT_EVENTS";
/// [`crate::round_trip::EndpointKey`] → [`crate::round_trip::RoundTrip`]. Not pinned: it goes with the daemon and its connections.
pub const MAP_ROUND_TRIPS: &str = "WEFT_ROUND_TRIP";
/// Per-CPU array of `u64`: what the ear counts, see [`crate::round_trip::HEARD`]. Not pinned.
pub const MAP_HEARD: &str = "WEFT_HEARD";

/// The cookie of the daemon's network namespace, written before the kernel half is loaded. No map of its own: the ear reads it at every
/// event.
pub const GLOBAL_NETNS: &str = "WEFT_NETNS";

/// Every map that is pinned.
pub const MAPS: [&str; 8] = [
    MAP_IFACES,
    MAP_SERVICES,
    MAP_POD_RANGES,
    MAP_NODE_ADDRS,
    MAP_LISTENERS,
    MAP_SETTINGS,
    MAP_COUNTERS,
    MAP_EVENTS,
];
/// Every TC program.
pub const PROGRAMS: [&str; 3] = [PROGRAM_FROM_POD, PROGRAM_FROM_NET, PROGRAM_FROM_NET_L3];
