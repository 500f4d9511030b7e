//! Netlink as this room uses it: requests about routes through the rtnetlink crate, notifications that only say "look again", and a small
//! request socket for protocols that no crate of a fitting licence speaks. All act in the network namespace of the calling thread.

pub(super) mod groups;
mod notify;
mod request;
mod route;

pub use notify::Noticed;
pub(super) use notify::Notifications;
pub(super) use request::{Answer, Requests};
pub(super) use route::{connect, dump, errno_of};

#[cfg(test)]
mod tests;
