//! The kernel's ear: round trips and retransmits of the daemon's connections to endpoints, as the stack measures them anyway. Whether a
//! connection is heard at all, and how values are joined, `mesh-common::round_trip` says.

use core::ptr::read_volatile;

use aya_ebpf::{
    bindings::{
        BPF_NOEXIST, BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB, BPF_SOCK_OPS_RETRANS_CB, BPF_SOCK_OPS_RETRANS_CB_FLAG,
        BPF_SOCK_OPS_RTT_CB, BPF_SOCK_OPS_RTT_CB_FLAG, bpf_sock_ops,
    },
    helpers::{bpf_get_netns_cookie, bpf_sock_ops_cb_flags_set},
    programs::SockOpsContext,
};
use mesh_common::{
    addr::{Addr, port_from_wire_word},
    round_trip::{
        EndpointKey, HEARD_BUCKETS, HEARD_MICROS, HEARD_NO_ROOM, HEARD_RETRANSMITS, RoundTrip, UNITS_PER_MICRO, bucket,
        hears, smooth,
    },
};

use crate::maps::{WEFT_HEARD, WEFT_NETNS, WEFT_ROUND_TRIP, WEFT_SETTINGS};

/// What the program answers, whatever it heard.
pub const GO_ON: u32 = 1;
const AF_INET: u32 = 2;
/// Asks for what happens about once in a round trip, and for what happens when a segment is lost. Packets as such are not asked for.
const WANTED: u32 = BPF_SOCK_OPS_RTT_CB_FLAG | BPF_SOCK_OPS_RETRANS_CB_FLAG;

/// Reads a field of the context, volatile: see [`endpoint`].
macro_rules! read {
    ($ops:expr, $($field:tt)+) => {
        // SAFETY: the kernel hands a valid context
        unsafe { read_volatile(&raw const (*$ops).$($field)+) }
    };
}

/// Hears one event. Entries are made when a connection is established and by nothing else: an endpoint that the daemon has forgotten is
/// not brought back by a connection that still runs.
#[inline(always)]
pub fn hear(ctx: &SockOpsContext) {
    let ops = ctx.ops;
    // other programs of the cgroup may have asked for what we did not
    match read!(ops, op) {
        BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB if ours(ops) => established(ops),
        BPF_SOCK_OPS_RTT_CB if ours(ops) => {
            sample(WEFT_ROUND_TRIP.get_ptr_mut(endpoint(ops)), read!(ops, srtt_us));
        }
        // the arguments are the first byte's number, the segments, and why they could not be sent
        BPF_SOCK_OPS_RETRANS_CB if ours(ops) && read!(ops, __bindgen_anon_1.args[2]) == 0 => {
            retransmitted(
                WEFT_ROUND_TRIP.get_ptr_mut(endpoint(ops)),
                read!(ops, __bindgen_anon_1.args[1]),
            );
        }
        _ => {}
    }
}

/// A dial has succeeded: its handshake is the first sample, and more are asked for.
#[inline(always)]
fn established(ops: *mut bpf_sock_ops) {
    let flags = read!(ops, bpf_sock_ops_cb_flags) | WANTED;
    // SAFETY: the program's own context. It fails for flags that the kernel does not know, and these are older than sk_lookup
    unsafe { bpf_sock_ops_cb_flags_set(ops, flags as i32) };
    let key = endpoint(ops);
    let entry = WEFT_ROUND_TRIP.get_ptr_mut(key).or_else(|| {
        // it fails where another CPU was faster, which is fine, and where the map is full
        let _ = WEFT_ROUND_TRIP.insert(key, RoundTrip::NONE, u64::from(BPF_NOEXIST));
        WEFT_ROUND_TRIP.get_ptr_mut(key)
    });
    if entry.is_none() {
        count(HEARD_NO_ROOM, 1);
    }
    sample(entry, read!(ops, srtt_us));
    retransmitted(entry, read!(ops, total_retrans));
}

/// Whether this is a dial of the daemon that loaded the program.
#[inline(always)]
fn ours(ops: *mut bpf_sock_ops) -> bool {
    let Some(settings) = WEFT_SETTINGS.get(0) else {
        return false;
    };
    let socket = read!(ops, __bindgen_anon_2.sk);
    if socket.is_null() {
        return false;
    }
    // SAFETY: the context's socket is readable unless it is null; the cookie is constant data that the loader has written
    let (mark, netns, own) = unsafe {
        (
            (*socket).mark,
            bpf_get_netns_cookie(ops.cast()),
            read_volatile(&raw const WEFT_NETNS),
        )
    };
    hears(mark, netns, settings, own)
}

/// The other side's address. The fields of both families are read, volatile, and chosen from afterwards: LLVM otherwise merges the two
/// branches' loads into one through a moved context pointer, which the verifier refuses.
#[inline(always)]
fn endpoint(ops: *mut bpf_sock_ops) -> EndpointKey {
    let v4 = Addr::from_v4_word(read!(ops, remote_ip4));
    let v6 = Addr::from_v6_words([
        read!(ops, remote_ip6[0]),
        read!(ops, remote_ip6[1]),
        read!(ops, remote_ip6[2]),
        read!(ops, remote_ip6[3]),
    ]);
    EndpointKey {
        addr: if read!(ops, family) == AF_INET { v4 } else { v6 },
        port: u32::from(port_from_wire_word(read!(ops, remote_port))),
    }
}

/// Joins a connection's smoothed round trip, which the kernel keeps in 1/8 µs, to its endpoint's. Of two events of one endpoint on two
/// CPUs in the same moment one may be lost in the entry; the array's counts are each CPU's own and exact.
#[inline(always)]
fn sample(entry: Option<*mut RoundTrip>, units: u32) {
    if units == 0 {
        return;
    }
    let units = u64::from(units);
    if let Some(entry) = entry {
        // SAFETY: an entry stays readable and writable while the program runs, also if it is deleted meanwhile
        let entry = unsafe { &mut *entry };
        entry.smoothed = smooth(entry.smoothed, units);
        entry.samples += 1;
    }
    let micros = units / UNITS_PER_MICRO;
    count(HEARD_MICROS, micros);
    count(HEARD_BUCKETS + bucket(micros), 1);
}

#[inline(always)]
fn retransmitted(entry: Option<*mut RoundTrip>, segments: u32) {
    if segments == 0 {
        return;
    }
    if let Some(entry) = entry {
        // SAFETY: as in `sample`
        unsafe { (*entry).retransmits += u64::from(segments) };
    }
    count(HEARD_RETRANSMITS, u64::from(segments));
}

#[inline(always)]
fn count(index: u32, by: u64) {
    if let Some(value) = WEFT_HEARD.get_ptr_mut(index) {
        // SAFETY: the entry is this CPU's own
        unsafe { *value += by }
    }
}
