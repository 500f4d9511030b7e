//! Mends what somebody else removed: firewalls that flush every table when they reload, network managers that tidy routing rules.

use std::{convert::Infallible, io, time::Duration};

use rtnetlink::sys::protocols::{NETLINK_NETFILTER, NETLINK_ROUTE};
use tokio::time::sleep;

use super::super::{
    netlink::{Noticed, Notifications, groups},
    steering,
};
use crate::config::KernelSettings;

/// A flush comes as a burst of notifications, often followed by the same program's new rules: look once it has settled. Far below the
/// second after which a TCP client repeats its lost SYN.
const SETTLE: Duration = Duration::from_millis(50);
/// At most five checks per second (five small requests each), however busy kube-proxy's own tables are.
const CHECK_REST: Duration = Duration::from_millis(200);
/// At most one mend and one warning per second and part, also against a program that undoes it at once.
const MEND_REST: Duration = Duration::from_secs(1);
/// Checks happen at least this often, should a notification ever be missed.
const CHECK_PERIOD: Duration = Duration::from_secs(30);

/// What was mended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mended {
    /// The nftables table.
    Nftables,
    /// Routing rules or the route to `lo`.
    Steering,
}

/// Why nothing can be watched.
#[derive(Debug, thiserror::Error)]
#[error("could not hear of changes to {what} ({error}): run as root or with the capability CAP_NET_ADMIN")]
pub struct KeepError {
    what: &'static str,
    error: io::Error,
}

impl Mended {
    /// Every part.
    pub const ALL: [Self; 2] = [Self::Nftables, Self::Steering];

    /// The metric label.
    pub fn name(self) -> &'static str {
        match self {
            Self::Nftables => "nftables",
            Self::Steering => "steering",
        }
    }
}

/// Watches the nftables table and the routing rules, checks them at once, and installs them again when they are not as they should be.
/// Each mend is logged and told to `mended`, with what brought it to light. Runs until it is dropped.
///
/// # Errors
/// If the kernel refuses notifications. A failed mend is logged and tried again.
pub async fn keep(settings: &KernelSettings, mut mended: impl FnMut(Mended, Noticed)) -> Result<Infallible, KeepError> {
    let failed = |what| move |error| KeepError { what, error };
    let tables = Notifications::join(NETLINK_NETFILTER, &[groups::NFNLGRP_NFTABLES]).map_err(failed("nftables"))?;
    let groups = [
        groups::RTNLGRP_LINK,
        groups::RTNLGRP_IPV4_ROUTE,
        groups::RTNLGRP_IPV4_RULE,
        groups::RTNLGRP_IPV6_ROUTE,
        groups::RTNLGRP_IPV6_RULE,
    ];
    let routes = Notifications::join(NETLINK_ROUTE, &groups).map_err(failed("routing"))?;
    let mut noticed = Noticed::Start;
    loop {
        tables.forget();
        routes.forget();
        let mut rest = CHECK_REST;
        for part in Mended::ALL {
            if !is_intact(settings, part).await {
                rest = MEND_REST;
                if mend(settings, part, noticed).await {
                    mended(part, noticed);
                }
            }
        }
        sleep(rest).await;
        noticed = tokio::select! {
            result = tables.changed() => result.map(|()| Noticed::Notification).map_err(failed("nftables"))?,
            result = routes.changed() => result.map(|()| Noticed::Notification).map_err(failed("routing"))?,
            () = sleep(CHECK_PERIOD) => Noticed::Period,
        };
        sleep(SETTLE).await;
    }
}

async fn is_intact(settings: &KernelSettings, part: Mended) -> bool {
    match part {
        // what cannot be read is not known to be broken; the next change or period asks again
        Mended::Nftables => super::is_installed(settings).await.unwrap_or_else(|error| {
            tracing::warn!(%error, "the nftables table could not be checked");
            true
        }),
        Mended::Steering => steering::is_installed(settings).await,
    }
}

async fn mend(settings: &KernelSettings, part: Mended, noticed: Noticed) -> bool {
    let result = match part {
        Mended::Nftables => super::install(settings).await.map_err(|error| error.to_string()),
        Mended::Steering => steering::install(settings).await.map_err(|error| error.to_string()),
    };
    match result {
        Ok(()) => {
            tracing::warn!(
                part = part.name(),
                noticed_by = noticed.name(),
                "somebody removed or changed it; it has been written again"
            );
            true
        }
        Err(error) => {
            tracing::warn!(part = part.name(), %error, "somebody removed or changed it, and it could not be written again");
            false
        }
    }
}
