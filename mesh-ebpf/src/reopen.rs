//! A client that takes up a source port again, while the TIME_WAIT of its last connection still stands on our side. The stack itself decides
//! whether that may open a new connection (RFC 6191), and then looks for a listener at the address that the client dialled. There is none:
//! this program names ours.

use core::ptr::read_volatile;

use aya_ebpf::{bindings::bpf_sk_lookup, programs::SkLookupContext};
use mesh_common::{
    addr::{Addr, port_from_wire},
    counter::Counter,
    decide::{self, Kind, Listener, Packet, Step},
};

use crate::{emit, maps::WEFT_IFACES, socket, tc};

/// Goes on with the look-up (`SK_PASS`).
pub const SK_PASS: u32 = 1;
const AF_INET: u32 = 2;
const IPPROTO_TCP: u32 = 6;

/// Assigns the worker's listener to a captured pod's connection into the mesh, and to nothing else: this program is asked for every new
/// connection to a socket of the node.
#[inline(always)]
pub fn reopen(ctx: &SkLookupContext) {
    let Some(packet) = packet(ctx.lookup) else { return };
    // SAFETY: the kernel hands a valid context
    let ifindex = unsafe { read_volatile(&raw const (*ctx.lookup).ingress_ifindex) };
    // SAFETY: the daemon replaces entries whole; a reader sees the old or the new one
    let iface = unsafe { WEFT_IFACES.get(&ifindex) };
    if !decide::reopens(iface, tc::to_node(&packet)) {
        return;
    }
    let Some(iface) = iface else { return };
    if let Step::Next(()) = decide::destination(&packet, iface, tc::to_mesh(&packet))
        && socket::hand_over(ctx.lookup.cast(), &packet) == Listener::Assigned
    {
        emit::count(Counter::Reopened);
    }
}

/// Reads the fields of both families, volatile, and chooses afterwards: LLVM otherwise merges the two branches' loads into one through a
/// moved context pointer, which the verifier refuses. A field of the other family reads as zero.
#[inline(always)]
fn packet(lookup: *mut bpf_sk_lookup) -> Option<Packet> {
    macro_rules! read {
        ($($field:tt)+) => {
            // SAFETY: the kernel hands a valid context
            unsafe { read_volatile(&raw const (*lookup).$($field)+) }
        };
    }
    let (remote4, local4) = (read!(remote_ip4), read!(local_ip4));
    let remote6 = [
        read!(remote_ip6[0]),
        read!(remote_ip6[1]),
        read!(remote_ip6[2]),
        read!(remote_ip6[3]),
    ];
    let local6 = [
        read!(local_ip6[0]),
        read!(local_ip6[1]),
        read!(local_ip6[2]),
        read!(local_ip6[3]),
    ];
    let v4 = read!(family) == AF_INET;
    if read!(protocol) != IPPROTO_TCP {
        return None;
    }
    Some(Packet {
        kind: Kind::Syn,
        source: if v4 {
            Addr::from_v4_word(remote4)
        } else {
            Addr::from_v6_words(remote6)
        },
        destination: if v4 {
            Addr::from_v4_word(local4)
        } else {
            Addr::from_v6_words(local6)
        },
        source_port: port_from_wire(read!(remote_port)),
        destination_port: read!(local_port) as u16,
    })
}
