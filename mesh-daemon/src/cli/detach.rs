//! `mesh-daemon detach`: takes back everything that a daemon ever wrote into this node's kernel.

use crate::{
    bpf::{self, detach::Removed},
    config::KernelSettings,
};

/// Removes everything and says what it was.
///
/// # Errors
/// The first thing that could not be removed.
pub async fn detach(settings: &KernelSettings, netlink: &rtnetlink::Handle) -> Result<String, bpf::Error> {
    Ok(words(&bpf::detach::everything(settings, netlink).await?))
}

fn words(removed: &Removed) -> String {
    let Removed {
        links,
        filters,
        rules,
        nftables,
        pins,
    } = removed;
    let parts: Vec<String> = [
        (*links > 0).then(|| format!("{links} TCX links")),
        (*filters > 0).then(|| format!("{filters} clsact filters")),
        (*rules > 0).then(|| format!("{rules} routing rules and routes")),
        nftables.then(|| "the nftables table `inet weft`".to_owned()),
        pins.then(|| "the pinned maps".to_owned()),
    ]
    .into_iter()
    .flatten()
    .collect();
    if parts.is_empty() {
        "nothing of Weft was here".to_owned()
    } else {
        format!("removed {}", parts.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_there_is_said_to_be_removed() {
        let nothing = Removed::default();
        let some = Removed {
            links: 3,
            nftables: true,
            ..nothing
        };
        for (removed, expected) in [
            (nothing, "nothing of Weft was here"),
            (some, "removed 3 TCX links, the nftables table `inet weft`"),
        ] {
            assert_eq!(words(&removed), expected);
        }
    }
}
