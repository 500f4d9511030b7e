//! TODO.

pub mod facts;
pub mod nftables;
pub mod steering;

mod netlink;
