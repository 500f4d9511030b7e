//! The border to the kernel: loads and attaches the kernel half, keeps its maps equal to the model's tables, sets the node up for steered
//! packets, and reads facts about its interfaces. The only room that knows aya and netlink.

mod attach;
pub mod detach;
mod error;
mod events;
pub mod facts;
mod filters;
mod kernel;
mod metrics;
pub mod nftables;
mod object;
mod pins;
pub mod steering;
pub mod table;

pub use error::Error;
pub use events::log_drops;
pub use kernel::{Applied, Kernel, ListenerFds};
pub use metrics::{Decisions, Metrics};
pub use pins::Pins;
