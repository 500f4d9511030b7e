//! Takes back everything that a daemon ever pinned or wrote on this node: links, filters, qdiscs of ours, maps, rules, routes, the nftables
//! table. Removing the absent is fine, so that it can be repeated.

use super::{
    Error, filters, nftables,
    pins::{self, Pins},
    steering,
};
use crate::config::KernelSettings;

/// What was found and removed, for people.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Removed {
    /// Pinned links.
    pub links: usize,
    /// clsact filters.
    pub filters: usize,
    /// Routing rules and routes.
    pub rules: usize,
    /// Whether the nftables table was there.
    pub nftables: bool,
    /// Whether maps or folders were pinned.
    pub pins: bool,
}

/// Removes everything. Programs go first, so that no packet is steered to nowhere.
///
/// # Errors
/// The first thing that could not be removed; what came before it is gone.
pub async fn everything(settings: &KernelSettings, netlink: &rtnetlink::Handle) -> Result<Removed, Error> {
    let pins = Pins::new(&settings.pin_dir);
    let mut removed = Removed::default();
    for (_, _, path) in pins.pinned_links() {
        pins::remove_file(&path)?;
        removed.links += 1;
    }
    for (ifindex, interface) in filters::interfaces(netlink).await? {
        removed.filters += filters::on_ingress(netlink, ifindex)
            .await?
            .iter()
            .filter(|filter| filter.is_ours())
            .count();
        filters::detach(netlink, &pins, ifindex, &interface).await?;
    }
    removed.rules = steering::remove(settings).await?;
    removed.nftables = nftables::is_installed(settings).await.unwrap_or(true);
    nftables::remove(settings).await?;
    removed.pins = removed.links > 0 || !pins.is_empty();
    pins.remove_all()?;
    Ok(removed)
}
