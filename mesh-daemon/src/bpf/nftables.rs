//! Keeps captured connections out of conntrack: one nftables table, `inet weft`, written by netlink. Without it kube-proxy's DNAT rewrites
//! a steered SYN, the established-socket lookup misses, and the connection hangs.
//!
//! ```text
//! table inet weft {
//!     chain prerouting { type filter hook prerouting priority raw; policy accept; meta mark & MASK == STEER notrack }
//!     chain output     { type filter hook output     priority raw; policy accept; meta mark & MASK == TRANSPARENT notrack }
//! }
//! ```

mod keep;
mod ruleset;
mod wire;

use std::io;

use rtnetlink::sys::protocols::NETLINK_NETFILTER;

use super::netlink::{Answer, Requests};
use crate::config::KernelSettings;
pub use keep::{KeepError, Mended, keep};
pub use ruleset::TABLE;

/// How often a dump is asked for again because rules changed while it ran. kube-proxy writes in bursts of a few transactions.
const DUMP_ATTEMPTS_MAX: u32 = 5;

/// Why the table could not be written, removed or read.
#[derive(Debug, thiserror::Error)]
pub enum NftablesError {
    /// `EPERM`.
    #[error(
        "the kernel does not let this process change nftables: run it as root or with the capability CAP_NET_ADMIN"
    )]
    NotPermitted,
    /// The kernel lacks what the table needs.
    #[error(
        "the kernel cannot hold the nftables table inet weft ({0}): load the modules nf_tables and nft_ct, or use a kernel with CONFIG_NF_TABLES_INET and CONFIG_NFT_CT"
    )]
    NotSupported(io::Error),
    /// Anything else.
    #[error("could not {0} the nftables table inet weft ({1}): `nft list table inet weft` shows what stands there")]
    Kernel(&'static str, io::Error),
}

/// Writes the table in one transaction, in the place of an old one. Twice is once.
///
/// # Errors
/// If the kernel refuses it; then nothing has changed.
pub async fn install(settings: &KernelSettings) -> Result<(), NftablesError> {
    let request = ruleset::replace(&settings.marks);
    ask(&request).await.map(drop).map_err(|error| refused("write", error))
}

/// Removes the table. One that is not there is fine, as is a kernel that could never hold it.
///
/// # Errors
/// If the kernel refuses.
pub async fn remove(_settings: &KernelSettings) -> Result<(), NftablesError> {
    match ask(&ruleset::delete()).await.map_err(|error| refused("remove", error)) {
        Err(NftablesError::Kernel(_, error)) if is_absent(&error) => Ok(()),
        Err(NftablesError::NotSupported(_)) => Ok(()),
        result => result.map(drop),
    }
}

/// Whether the table stands as [`install`] writes it: both chains at their hooks, one rule each with these marks, nothing else, not dormant.
///
/// # Errors
/// If it cannot be read. An absent table is `false`, not an error.
pub async fn is_installed(settings: &KernelSettings) -> Result<bool, NftablesError> {
    match compare(settings).await {
        Err(error) if is_absent(&error) => Ok(false),
        result => result.map_err(|error| refused("read", error)),
    }
}

async fn compare(settings: &KernelSettings) -> io::Result<bool> {
    let chains = ruleset::chains(&settings.marks);
    let first = |answer: &Answer| {
        answer
            .messages
            .first()
            .map(|(_, payload)| payload.clone())
            .unwrap_or_default()
    };
    if !ruleset::table_matches(&first(&ask(&ruleset::get_table()).await?), chains.len()) {
        return Ok(false);
    }
    for chain in &chains {
        if !chain.matches(&first(&ask(&ruleset::get_chain(chain.name)).await?)) {
            return Ok(false);
        }
    }
    for _ in 0..DUMP_ATTEMPTS_MAX {
        let answer = ask(&ruleset::get_rules()).await?;
        if !answer.interrupted {
            let payloads: Vec<_> = answer.messages.iter().map(|(_, payload)| payload.as_slice()).collect();
            return Ok(ruleset::rules_match(&payloads, &chains));
        }
    }
    Err(io::ErrorKind::Interrupted.into())
}

/// Each request has a socket of its own, so that a late answer to one is never taken for another's.
async fn ask(request: &ruleset::Request) -> io::Result<Answer> {
    Requests::open(NETLINK_NETFILTER)?
        .ask(&request.bytes, request.last)
        .await
}

fn is_absent(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::ENOENT)
}

fn refused(doing: &'static str, error: io::Error) -> NftablesError {
    match error.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => NftablesError::NotPermitted,
        Some(libc::EOPNOTSUPP | libc::EAFNOSUPPORT | libc::EPROTONOSUPPORT) => NftablesError::NotSupported(error),
        // writing names nothing that could be absent but an expression of a module that is not there
        Some(libc::ENOENT) if doing == "write" => NftablesError::NotSupported(error),
        _ => NftablesError::Kernel(doing, error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(doing: &'static str, errno: i32, expected: &str) {
        let sentence = refused(doing, io::Error::from_raw_os_error(errno)).to_string();
        assert!(sentence.contains(expected), "{sentence}");
    }

    #[test]
    fn refusals_say_what_to_do() {
        check("write", libc::EPERM, "CAP_NET_ADMIN");
        check("remove", libc::EPERM, "CAP_NET_ADMIN");
        for errno in [
            libc::EOPNOTSUPP,
            libc::EAFNOSUPPORT,
            libc::EPROTONOSUPPORT,
            libc::ENOENT,
        ] {
            check("write", errno, "load the modules nf_tables and nft_ct");
        }
        check("remove", libc::EBUSY, "could not remove the nftables table inet weft");
        check("read", libc::EINVAL, "nft list table inet weft");
    }
}
