//! Packet → look-ups → `decide`, in that order and nothing else. Nothing is looked up before its answer matters.

use aya_ebpf::{maps::lpm_trie::Key, programs::TcContext};
use mesh_common::{
    addr::Addr,
    counter::Counter,
    decide::{self, Packet, Step, Verdict},
    service::ServiceKey,
};

use crate::{
    maps::{WEFT_IFACES, WEFT_NODE_ADDRS, WEFT_POD_RANGES, WEFT_SERVICES},
    packet::{self, Layer},
    socket,
};

/// Bits of an [`Addr`]: a look-up in the prefix trie is for a whole address.
const ADDR_BITS: u32 = 128;

/// Goes on with the next step, or ends with the verdict.
macro_rules! next {
    ($step:expr) => {
        match $step {
            Step::Next(next) => next,
            Step::Done(verdict) => return verdict,
        }
    };
}

/// What a pod sends.
#[inline(always)]
pub fn from_pod(ctx: &TcContext) -> Verdict {
    let Some(packet) = packet::parse(ctx, Layer::Ethernet) else {
        return Verdict::Pass(Counter::PassNotTcp);
    };
    let ifindex = ifindex(ctx);
    // SAFETY: the daemon replaces entries whole; a reader sees the old or the new one
    let Some(iface) = (unsafe { WEFT_IFACES.get(&ifindex) }) else {
        return Verdict::Pass(Counter::PassUnknownInterface);
    };
    let if_found = next!(decide::arrival_from_pod(&packet, iface, to_node(&packet)));
    next!(decide::running(if_found, socket::running(ctx, &packet, if_found)));
    next!(decide::opens_captured(&packet, iface));
    next!(decide::destination(&packet, iface, to_mesh(&packet)));
    decide::handed_over(socket::hand_over(ctx.skb.skb.cast(), &packet))
}

/// What reaches the node from elsewhere: answers to the daemon's own connections.
#[inline(always)]
pub fn from_net(ctx: &TcContext, layer: Layer) -> Verdict {
    let Some(packet) = packet::parse(ctx, layer) else {
        return Verdict::Pass(Counter::PassNotTcp);
    };
    let if_found = next!(decide::arrival_from_net(&packet, to_node(&packet)));
    next!(decide::running(if_found, socket::running(ctx, &packet, if_found)));
    decide::nobody()
}

#[inline(always)]
pub fn to_node(packet: &Packet) -> bool {
    // SAFETY: only presence is read
    unsafe { WEFT_NODE_ADDRS.get(&packet.destination) }.is_some()
}

#[inline(always)]
pub fn to_mesh(packet: &Packet) -> bool {
    let key = ServiceKey {
        addr: packet.destination,
        port: u32::from(packet.destination_port),
    };
    // SAFETY: only presence is read
    unsafe { WEFT_SERVICES.get(&key) }.is_some() || in_pod_range(packet.destination)
}

#[inline(always)]
fn in_pod_range(addr: Addr) -> bool {
    WEFT_POD_RANGES.get(&Key::new(ADDR_BITS, addr)).is_some()
}

#[inline(always)]
fn ifindex(ctx: &TcContext) -> u32 {
    // SAFETY: the kernel hands a valid context
    unsafe { (*ctx.skb.skb).ifindex }
}
