//! Sizes and alignments of everything that crosses a map, asserted when either half is built: no padding, no niche, no pointer.

use crate::{
    addr::Addr,
    capture::Iface,
    event::Event,
    round_trip::{EndpointKey, RoundTrip},
    service::{ServiceKey, ServiceValue},
    settings::Settings,
};

/// Bumped when a map changes its shape: maps are pinned under a folder of this name, so that a daemon never reads its predecessor's bytes
/// as something else.
pub const VERSION: u32 = 1;

macro_rules! assert_layout {
    ($($type:ty: $size:literal by $align:literal,)*) => {
        $(
            const _: () = assert!(size_of::<$type>() == $size);
            // all fields have this width: with sizes that are a multiple of their alignment there is no padding
            const _: () = assert!(align_of::<$type>() == $align);
            #[cfg(feature = "user")]
            #[expect(unsafe_code, reason = "aya's contract for map values: any bytes are valid and none are padding, asserted above")]
            // SAFETY: plain integers of one width only, no padding by the asserts above
            unsafe impl aya::Pod for $type {}
        )*
    };
}

assert_layout! {
    Addr: 16 by 4,
    Iface: 36 by 4,
    ServiceKey: 20 by 4,
    ServiceValue: 4 by 4,
    Settings: 20 by 4,
    Event: 48 by 4,
    EndpointKey: 20 by 4,
    RoundTrip: 24 by 8,
}
