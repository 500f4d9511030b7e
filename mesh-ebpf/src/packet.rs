//! Bounds-checked reads of a packet's headers → [`Packet`], or `None` for whatever capture has no business with.

use aya_ebpf::programs::TcContext;
use mesh_common::{
    addr::{Addr, ethertype_from_wire, port_from_wire},
    decide::{Kind, Packet},
};

const ETHERTYPE_IPV4: u16 = 0x0800;
const ETHERTYPE_IPV6: u16 = 0x86dd;
const ETHERNET_BYTES: usize = 14;
const IPV6_BYTES: usize = 40;
const PROTOCOL_ICMP: u8 = 1;
const PROTOCOL_TCP: u8 = 6;
const PROTOCOL_ICMPV6: u8 = 58;
/// An ICMP error's own header, before the packet that it quotes (RFC 792, RFC 4443).
const ICMP_ERROR_BYTES: usize = 8;
/// "More fragments" and the fragment offset (RFC 791): either set means that it is a fragment.
const IPV4_FRAGMENT: u16 = 0x3fff;
const TCP_SYN: u8 = 0x02;
const TCP_ACK: u8 = 0x10;

/// What a packet on this interface starts with.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Layer {
    /// An Ethernet header.
    Ethernet,
    /// The IP header.
    Ip,
}

/// An IP header, as far as it is read: addresses, upper protocol, and where its payload starts.
struct Ip {
    source: Addr,
    destination: Addr,
    protocol: u8,
    payload: usize,
}

/// Reads a TCP packet, or an ICMP error that quotes one. Fragments, VLAN tags in the frame and IPv6 extension headers are not followed:
/// such packets pass as unmeshed.
#[inline(always)]
pub fn parse(ctx: &TcContext, layer: Layer) -> Option<Packet> {
    let (start, v6) = match layer {
        Layer::Ethernet => match ethertype_from_wire(ctx.load(12).ok()?) {
            ETHERTYPE_IPV4 => (ETHERNET_BYTES, false),
            ETHERTYPE_IPV6 => (ETHERNET_BYTES, true),
            _ => return None,
        },
        Layer::Ip => match ctx.load::<u8>(0).ok()? >> 4 {
            4 => (0, false),
            6 => (0, true),
            _ => return None,
        },
    };
    let ip = ip(ctx, start, v6)?;
    match ip.protocol {
        PROTOCOL_TCP => tcp(ctx, &ip),
        PROTOCOL_ICMP if !v6 => {
            let kind: u8 = ctx.load(ip.payload).ok()?;
            // destination unreachable, time exceeded, parameter problem
            if matches!(kind, 3 | 11 | 12) {
                quoted(ctx, ip.payload + ICMP_ERROR_BYTES, false)
            } else {
                None
            }
        }
        PROTOCOL_ICMPV6 if v6 => {
            let kind: u8 = ctx.load(ip.payload).ok()?;
            // unreachable, packet too big, time exceeded, parameter problem
            if matches!(kind, 1..=4) {
                quoted(ctx, ip.payload + ICMP_ERROR_BYTES, true)
            } else {
                None
            }
        }
        _ => None,
    }
}

#[inline(always)]
fn ip(ctx: &TcContext, start: usize, v6: bool) -> Option<Ip> {
    if v6 {
        return Some(Ip {
            protocol: ctx.load(start + 6).ok()?,
            source: Addr::from_v6_words(ctx.load(start + 8).ok()?),
            destination: Addr::from_v6_words(ctx.load(start + 24).ok()?),
            payload: start + IPV6_BYTES,
        });
    }
    let fragment: u16 = ctx.load(start + 6).ok()?;
    if u16::from_be(fragment) & IPV4_FRAGMENT != 0 {
        return None;
    }
    let version_and_length: u8 = ctx.load(start).ok()?;
    Some(Ip {
        protocol: ctx.load(start + 9).ok()?,
        source: Addr::from_v4_word(ctx.load(start + 12).ok()?),
        destination: Addr::from_v4_word(ctx.load(start + 16).ok()?),
        payload: start + ((version_and_length & 0x0f) as usize) * 4,
    })
}

#[inline(always)]
fn tcp(ctx: &TcContext, ip: &Ip) -> Option<Packet> {
    let flags: u8 = ctx.load(ip.payload + 13).ok()?;
    let ports: [u16; 2] = ctx.load(ip.payload).ok()?;
    Some(Packet {
        kind: if flags & (TCP_SYN | TCP_ACK) == TCP_SYN {
            Kind::Syn
        } else {
            Kind::Segment
        },
        source: ip.source,
        destination: ip.destination,
        source_port: port_from_wire(ports[0]),
        destination_port: port_from_wire(ports[1]),
    })
}

/// The quoted packet, turned round: as its receiver would answer it.
#[inline(always)]
fn quoted(ctx: &TcContext, start: usize, v6: bool) -> Option<Packet> {
    let ip = ip(ctx, start, v6)?;
    if ip.protocol != PROTOCOL_TCP {
        return None;
    }
    let ports: [u16; 2] = ctx.load(ip.payload).ok()?;
    Some(Packet {
        kind: Kind::IcmpError,
        source: ip.destination,
        destination: ip.source,
        source_port: port_from_wire(ports[1]),
        destination_port: port_from_wire(ports[0]),
    })
}
