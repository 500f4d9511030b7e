//! Finding the daemon's sockets and giving them packets. Every reference that a helper takes is released on every path.

use core::{ffi::c_void, mem};

use aya_ebpf::{
    bindings::{__sk_buff, BPF_TCP_LISTEN, BPF_TCP_NEW_SYN_RECV, BPF_TCP_TIME_WAIT, bpf_sock, bpf_sock_tuple},
    helpers::{
        bpf_get_listener_sock, bpf_map_lookup_elem, bpf_sk_assign, bpf_sk_fullsock, bpf_sk_release, bpf_skc_lookup_tcp,
    },
    programs::TcContext,
};
use mesh_common::{
    decide::{Found, IfFound, Listener, Packet, SocketState, is_ours},
    settings::{Settings, listener_slot, worker_of},
};

use crate::maps::{WEFT_LISTENERS, WEFT_SETTINGS};

/// Size of the IPv4 and the IPv6 form of `bpf_sock_tuple`.
const TUPLE_V4_BYTES: u32 = 12;
const TUPLE_V6_BYTES: u32 = 36;
/// "This namespace": the netns argument of the look-up helpers (`BPF_F_CURRENT_NETNS`).
const CURRENT_NETNS: u64 = -1i64 as u64;

/// Looks for the daemon's socket of a running connection, and assigns it where asked.
#[inline(always)]
pub fn running(ctx: &TcContext, packet: &Packet, asked: IfFound) -> Found {
    let Some(settings) = WEFT_SETTINGS.get(0) else {
        return Found::None;
    };
    let skb = ctx.skb.skb;
    // SAFETY: the context is the kernel's; `socket` is checked for null and released below
    unsafe {
        let socket = look_up(skb, packet);
        if socket.is_null() {
            return Found::None;
        }
        let found = if !is_ours(state(socket), settings.mark_mask, settings.mark_transparent) {
            Found::None
        } else if asked != IfFound::Assign {
            Found::Ours
        } else if bpf_sk_assign(skb.cast(), socket.cast(), 0) == 0 {
            Found::Assigned
        } else {
            Found::Failed
        };
        bpf_sk_release(socket.cast());
        found
    }
}

/// Gives a new connection to the listener of the worker that its source port names. `ctx` is a TC or an sk_lookup program's context: the
/// same helper serves both.
#[inline(always)]
pub fn hand_over(ctx: *mut c_void, packet: &Packet) -> Listener {
    let Some(Settings { workers, .. }) = WEFT_SETTINGS.get(0) else {
        return Listener::Absent;
    };
    let Some(worker) = worker_of(packet.source_port, *workers) else {
        return Listener::Absent;
    };
    let mut slot = listener_slot(worker, !packet.source.is_v4());
    // SAFETY: the map is a SOCKMAP, whose look-up gives a referenced socket or null; it is released below
    unsafe {
        let map = (&raw const WEFT_LISTENERS).cast_mut().cast::<c_void>();
        let listener = bpf_map_lookup_elem(map, (&raw mut slot).cast());
        if listener.is_null() {
            return Listener::Absent;
        }
        let refused = bpf_sk_assign(ctx, listener, 0);
        bpf_sk_release(listener);
        if refused == 0 {
            Listener::Assigned
        } else {
            Listener::Failed
        }
    }
}

/// # Safety
/// `skb` must be the program's context. The caller releases a socket that is not null.
#[inline(always)]
unsafe fn look_up(skb: *mut __sk_buff, packet: &Packet) -> *mut bpf_sock {
    // SAFETY: the tuple is a union of plain integers, all zero is valid
    let mut tuple: bpf_sock_tuple = unsafe { mem::zeroed() };
    let bytes = if packet.source.is_v4() {
        tuple.__bindgen_anon_1.ipv4.saddr = packet.source.v4_word();
        tuple.__bindgen_anon_1.ipv4.daddr = packet.destination.v4_word();
        tuple.__bindgen_anon_1.ipv4.sport = packet.source_port.to_be();
        tuple.__bindgen_anon_1.ipv4.dport = packet.destination_port.to_be();
        TUPLE_V4_BYTES
    } else {
        tuple.__bindgen_anon_1.ipv6.saddr = packet.source.0;
        tuple.__bindgen_anon_1.ipv6.daddr = packet.destination.0;
        tuple.__bindgen_anon_1.ipv6.sport = packet.source_port.to_be();
        tuple.__bindgen_anon_1.ipv6.dport = packet.destination_port.to_be();
        TUPLE_V6_BYTES
    };
    // SAFETY: context and tuple live through the call
    unsafe { bpf_skc_lookup_tcp(skb.cast(), &raw mut tuple, bytes, CURRENT_NETNS, 0) }
}

/// # Safety
/// `socket` must be a referenced socket from a look-up.
#[inline(always)]
unsafe fn state(socket: *mut bpf_sock) -> SocketState {
    // SAFETY: as above; each derived pointer is checked for null before it is read
    unsafe {
        let state = (*socket).state;
        if state == BPF_TCP_LISTEN {
            return SocketState::Listen;
        }
        if state == BPF_TCP_TIME_WAIT {
            return SocketState::TimeWait;
        }
        let marked = if state == BPF_TCP_NEW_SYN_RECV {
            bpf_get_listener_sock(socket)
        } else {
            bpf_sk_fullsock(socket)
        };
        if marked.is_null() {
            SocketState::Unreadable
        } else {
            SocketState::Marked((*marked).mark)
        }
    }
}
