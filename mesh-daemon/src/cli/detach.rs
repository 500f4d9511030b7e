//! `mesh-daemon detach`: takes back everything that a daemon ever wrote into this node's kernel.

use crate::{bpf, config::KernelSettings};

/// Removes everything and says what it was.
///
/// # Errors
/// The first thing that could not be removed.
pub async fn detach(settings: &KernelSettings, netlink: &rtnetlink::Handle) -> Result<String, bpf::Error> {
    let bpf::detach::Removed { links, filters } = bpf::detach::everything(settings, netlink).await?;
    Ok(format!(
        "removed {links} TCX links, {filters} clsact filters, the maps under {}, the routing rules and table {}, and the nftables table `inet weft`",
        settings.pin_dir.display(),
        settings.route_table,
    ))
}
