//! What the kernel says of this node: its interfaces, its own addresses, and which address is reached through which interface. Read by
//! netlink and kept fresh; never asks a CNI, never enters a pod's namespace.

mod derive;

use std::{convert::Infallible, io, time::Duration};

use rtnetlink::{
    Handle, IpVersion,
    packet_route::{
        AddressFamily,
        route::{RouteAttribute, RouteHeader, RouteMessage},
    },
    sys::protocols::NETLINK_ROUTE,
};
use tokio::{
    sync::watch,
    time::{Instant, sleep},
};

use super::netlink::{Noticed, Notifications, connect, dump, groups};
use crate::model::Facts;
pub use derive::{Dumps, facts_from};

/// A CNI makes interface, address, route in one go, within a few milliseconds: read once it is done. Small against the second within
/// which a new pod should be captured.
const SETTLE: Duration = Duration::from_millis(20);
/// Reads are at least this far apart, however often routes change.
const REST_MIN: Duration = Duration::from_millis(100);
/// The pause after a read is at least this many times as long as the read took: on a node with very many entries, reading takes at most a
/// fifth of this thread.
const REST_PER_READ: u32 = 4;
/// Neighbour entries change state all the time (reachable, stale, probe …) and matter only where there is no host route: gathered for this
/// long before a read.
const NEIGHBOUR_SETTLE: Duration = Duration::from_secs(1);
/// Reads happen at least this often, should a notification ever be missed.
const READ_PERIOD: Duration = Duration::from_secs(30);

/// Why the node could not be read.
#[derive(Debug, thiserror::Error)]
pub enum FactsError {
    /// No socket, or no groups.
    #[error(
        "could not open a netlink socket for this node's interfaces ({0}): check the limit of open files and seccomp filters"
    )]
    Open(io::Error),
    /// A dump failed.
    #[error("could not read this node's {0} by netlink ({1}): `ip {0}` should show them")]
    Dump(&'static str, io::Error),
    /// The notification socket broke.
    #[error("notifications about this node's interfaces ended ({0}): restart the daemon")]
    Notifications(io::Error),
}

/// Reads the facts, publishes them, and publishes them again whenever they have changed, which `published` is told with what brought it to light.
/// Returns when nobody receives them any more.
///
/// # Errors
/// If the node cannot be read at the start, or notifications end. A later read that fails is logged and repeated.
pub async fn observe(
    sender: watch::Sender<Option<Facts>>,
    mut published: impl FnMut(Noticed),
) -> Result<(), FactsError> {
    let mut watched = Watched::open()?;
    if publish(&sender, watched.read().await?) {
        published(Noticed::Start);
    }
    tokio::select! {
        () = sender.closed() => Ok(()),
        result = follow(&mut watched, &sender, published) => result.map(|never| match never {}),
    }
}

/// Reads the facts once.
///
/// # Errors
/// If the kernel refuses a dump.
pub async fn read() -> Result<Facts, FactsError> {
    let handle = connect().map_err(FactsError::Open)?;
    Ok(facts_from(&dump_all(&handle).await?))
}

async fn follow(
    watched: &mut Watched,
    sender: &watch::Sender<Option<Facts>>,
    mut published: impl FnMut(Noticed),
) -> Result<Infallible, FactsError> {
    loop {
        sleep(watched.rest).await;
        let noticed = watched.changed().await.map_err(FactsError::Notifications)?;
        match watched.read().await {
            Ok(facts) => {
                if publish(sender, facts) {
                    published(noticed);
                }
            }
            // what was true a moment ago is the better guess
            Err(error) => tracing::warn!(%error, "the facts about this node stay as they were"),
        }
    }
}

/// An equal value is not published. Says whether it was another.
fn publish(sender: &watch::Sender<Option<Facts>>, facts: Facts) -> bool {
    sender.send_if_modified(|published| {
        let changed = published.as_ref() != Some(&facts);
        if changed {
            *published = Some(facts);
        }
        changed
    })
}

struct Watched {
    handle: Handle,
    structure: Notifications,
    neighbours: Notifications,
    rest: Duration,
}

impl Watched {
    fn open() -> Result<Self, FactsError> {
        let structure = [
            groups::RTNLGRP_LINK,
            groups::RTNLGRP_IPV4_IFADDR,
            groups::RTNLGRP_IPV4_ROUTE,
            groups::RTNLGRP_IPV6_IFADDR,
            groups::RTNLGRP_IPV6_ROUTE,
        ];
        let join = |groups: &[u32]| Notifications::join(NETLINK_ROUTE, groups).map_err(FactsError::Open);
        Ok(Self {
            structure: join(&structure)?,
            neighbours: join(&[groups::RTNLGRP_NEIGH])?,
            handle: connect().map_err(FactsError::Open)?,
            rest: REST_MIN,
        })
    }

    /// Waits until it is time to read again.
    async fn changed(&self) -> io::Result<Noticed> {
        let neighbours = async {
            self.neighbours.changed().await?;
            sleep(NEIGHBOUR_SETTLE).await;
            Ok::<(), io::Error>(())
        };
        let noticed = tokio::select! {
            result = self.structure.changed() => result.map(|()| Noticed::Notification)?,
            result = neighbours => result.map(|()| Noticed::Notification)?,
            () = sleep(READ_PERIOD) => Noticed::Period,
        };
        sleep(SETTLE).await;
        Ok(noticed)
    }

    async fn read(&mut self) -> Result<Facts, FactsError> {
        // before the dump, so that what changes during it is read once more
        self.structure.forget();
        self.neighbours.forget();
        let start = Instant::now();
        let dumps = dump_all(&self.handle).await;
        self.rest = REST_MIN.max(start.elapsed() * REST_PER_READ);
        Ok(facts_from(&dumps?))
    }
}

async fn dump_all(handle: &Handle) -> Result<Dumps, FactsError> {
    let failed = |what| move |error| FactsError::Dump(what, error);
    let mut routes = Vec::new();
    for version in [IpVersion::V4, IpVersion::V6] {
        let mut message = RouteMessage::default();
        message.header.address_family = match version {
            IpVersion::V4 => AddressFamily::Inet,
            IpVersion::V6 => AddressFamily::Inet6,
        };
        message
            .attributes
            .push(RouteAttribute::Table(u32::from(RouteHeader::RT_TABLE_MAIN)));
        routes.extend(
            dump(handle.route().get(message).execute())
                .await
                .map_err(failed("route"))?,
        );
    }
    Ok(Dumps {
        links: dump(handle.link().get().execute()).await.map_err(failed("link"))?,
        addresses: dump(handle.address().get().execute())
            .await
            .map_err(failed("address"))?,
        routes,
        neighbours: dump(handle.neighbours().get().execute())
            .await
            .map_err(failed("neighbour"))?,
    })
}
