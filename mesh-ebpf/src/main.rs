//! The kernel half: entry points only. Each looks at one packet, asks `mesh-common::decide`, and acts.
#![no_std]
#![no_main]

mod emit;
mod maps;
mod packet;
mod socket;
mod tc;
mod reopen;
mod sockops;

use aya_ebpf::{
    macros::{classifier, sk_lookup, sock_ops},
    programs::{SkLookupContext, SockOpsContext, TcContext},
};

use packet::Layer;

/// Ingress of a local pod's host-side interface: what the pod sends.
#[classifier]
pub fn weft_from_pod(ctx: TcContext) -> i32 {
    emit::finish(&ctx, Layer::Ethernet, tc::from_pod(&ctx))
}

/// Ingress of every other interface of the node's namespace but `lo`.
#[classifier]
pub fn weft_from_net(ctx: TcContext) -> i32 {
    emit::finish(&ctx, Layer::Ethernet, tc::from_net(&ctx, Layer::Ethernet))
}

/// The same where packets have no link-layer header: tunnels, WireGuard.
#[classifier]
pub fn weft_from_net_l3(ctx: TcContext) -> i32 {
    emit::finish(&ctx, Layer::Ip, tc::from_net(&ctx, Layer::Ip))
}

/// The node's namespace: the listener for a SYN that the stack takes up over a TIME_WAIT socket.
#[sk_lookup]
pub fn weft_reopen(ctx: SkLookupContext) -> u32 {
    reopen::reopen(&ctx);
    // whether or not a socket was assigned, the look-up goes on as usual
    reopen::SK_PASS
}

/// The daemon's cgroup: what the kernel knows of the daemon's connections to endpoints.
#[sock_ops]
pub fn weft_ear(ctx: SockOpsContext) -> u32 {
    sockops::hear(&ctx);
    // no reply of ours: the kernel, and other programs of the cgroup, go on as without it
    sockops::GO_ON
}

#[cfg(not(test))]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

// bpf_sk_assign and bpf_skc_lookup_tcp are for GPL-compatible programs only
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
