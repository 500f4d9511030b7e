//! What the kernel half says through its ring buffer: packets that it dropped, with the reason.

use crate::addr::Addr;

/// Size of the ring buffer in bytes: a page-aligned power of two. 64 KiB hold about 1,000 events; when it is full, events are lost and
/// counted, packets are not delayed.
pub const EVENTS_BYTES: u32 = 1 << 16;

/// A dropped packet.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// The [`crate::counter::Counter`] that was bumped, as its index.
    pub reason: u32,
    /// Interface where it happened.
    pub ifindex: u32,
    /// Source address of the packet.
    pub source: Addr,
    /// Destination address of the packet.
    pub destination: Addr,
    /// Source port, host order.
    pub source_port: u32,
    /// Destination port, host order.
    pub destination_port: u32,
}
