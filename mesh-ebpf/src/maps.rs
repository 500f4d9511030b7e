//! The maps, under the names of `mesh-common::names`. The daemon pins all but the ear's, so that they and capture survive its restart.

use aya_ebpf::{
    bindings::BPF_F_NO_PREALLOC,
    macros::map,
    maps::{Array, HashMap, LpmTrie, PerCpuArray, RingBuf, SockMap},
};
use mesh_common::{
    addr::Addr,
    capture::{IFACES_MAX, Iface, NODE_ADDRS_MAX, POD_RANGES_MAX},
    counter::COUNTERS,
    event::EVENTS_BYTES,
    round_trip::{EndpointKey, HEARD, ROUND_TRIPS_MAX, RoundTrip},
    service::{SERVICES_MAX, ServiceKey, ServiceValue},
    settings::{LISTENER_SLOTS, Settings},
};

#[map]
pub static WEFT_IFACES: HashMap<u32, Iface> = HashMap::with_max_entries(IFACES_MAX, BPF_F_NO_PREALLOC);
#[map]
pub static WEFT_SERVICES: HashMap<ServiceKey, ServiceValue> =
    HashMap::with_max_entries(SERVICES_MAX, BPF_F_NO_PREALLOC);
#[map]
pub static WEFT_POD_RANGES: LpmTrie<Addr, u32> = LpmTrie::with_max_entries(POD_RANGES_MAX, BPF_F_NO_PREALLOC);
#[map]
pub static WEFT_NODE_ADDRS: HashMap<Addr, u32> = HashMap::with_max_entries(NODE_ADDRS_MAX, BPF_F_NO_PREALLOC);
#[map]
pub static WEFT_LISTENERS: SockMap = SockMap::with_max_entries(LISTENER_SLOTS, 0);
#[map]
pub static WEFT_SETTINGS: Array<Settings> = Array::with_max_entries(1, 0);
#[map]
pub static WEFT_COUNTERS: PerCpuArray<u64> = PerCpuArray::with_max_entries(COUNTERS, 0);
#[map]
pub static WEFT_EVENTS: RingBuf = RingBuf::with_byte_size(EVENTS_BYTES, 0);
#[map]
pub static WEFT_ROUND_TRIP: HashMap<EndpointKey, RoundTrip> =
    HashMap::with_max_entries(ROUND_TRIPS_MAX, BPF_F_NO_PREALLOC);
#[map]
pub static WEFT_HEARD: PerCpuArray<u64> = PerCpuArray::with_max_entries(HEARD, 0);
/// The cookie of the daemon's network namespace: the daemon writes it when it loads the programs.
#[unsafe(no_mangle)]
pub static WEFT_NETNS: u64 = 0;
