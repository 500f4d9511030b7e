//! The border to the kernel: loads and attaches the kernel half, keeps its maps equal to the model's tables, sets the node up for steered
//! packets, and reads facts about its interfaces. The only room that knows aya and netlink.

pub mod facts;
mod netlink;
mod object;
mod kernel;
mod attach;
mod filters;
mod pins;
pub mod cgroup;
mod ear;
pub mod table;
pub mod steering;
pub mod nftables;
mod events;
#[cfg(feature = "ebpf-log")]
mod debug_log;
mod metrics;
pub mod detach;
mod error;

pub use ear::{RoundTrip, RoundTrips};
pub use error::Error;
pub use events::log_drops;
pub use kernel::{Applied, Kernel, ListenerFds};
pub use metrics::{Decisions, Heard, Metrics};
pub use netlink::Noticed;
pub use pins::Pins;

/// Puts back routing rules, routes and the nftables table when somebody else removes them; never ends by itself.
///
/// # Errors
/// If the kernel's notifications cannot be heard.
pub async fn keep(
    settings: crate::config::KernelSettings,
    metrics: Metrics,
) -> Result<std::convert::Infallible, nftables::KeepError> {
    nftables::keep(&settings, |what, _| metrics.mended(what)).await
}
