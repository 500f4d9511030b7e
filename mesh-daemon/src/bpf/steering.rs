//! Delivers steered packets to the daemon's listeners: three routing rules and one routing table, for IPv4 and IPv6, written by netlink.
//!
//! ```text
//! P:   iif lo fwmark STEER/MASK goto P+2     with src_valid_mark the reverse-path check asks for the source with the packet's mark: it
//!                                            would find it "local" and drop every steered packet
//! P+1: fwmark STEER/MASK lookup N
//! P+2: nop
//! table N: local default dev lo
//! ```
//! Whatever Weft writes carries [`PROTOCOL`], so that its own leftovers are known and mended. Anything else at these preferences or in this
//! table belongs to somebody else: it is never touched, and [`install`] refuses to start beside it, because it could send steered packets
//! elsewhere.

mod plan;

use std::io;

use rtnetlink::{
    Handle, IpVersion,
    packet_route::{
        link::{AfSpecInet6, AfSpecUnspec, LinkAttribute},
        route::{RouteAttribute, RouteMessage},
        rule::RuleMessage,
    },
};

use super::netlink::{connect, dump, errno_of};
use crate::config::KernelSettings;
pub use plan::PROTOCOL;
use plan::{Foreign, Plan};

/// Why steering could not be installed or removed.
#[derive(Debug, thiserror::Error)]
pub enum SteeringError {
    /// `EPERM`.
    #[error(
        "the kernel does not let this process change routing rules: run it as root or with the capability CAP_NET_ADMIN"
    )]
    NotPermitted,
    /// Somebody else's rule at one of the three preferences.
    #[error(
        "the routing rule `{0}` is not Weft's but stands where Weft's three rules belong: remove it, or choose another rule preference"
    )]
    ForeignRule(String),
    /// Somebody else's route in the table.
    #[error(
        "the routing table {table} already holds the route `{route}`, which is not Weft's: remove it, or choose another routing table"
    )]
    ForeignRoute {
        /// The table.
        table: u32,
        /// The route, as `ip route` says it.
        route: String,
    },
    /// `lo` is down.
    #[error("the interface lo is down, so nothing can be delivered locally: `ip link set lo up`")]
    LoopbackDown,
    /// Anything else.
    #[error("could not {0} ({1}): `ip rule` and `ip route show table all` show what stands there")]
    Kernel(&'static str, io::Error),
}

/// Installs rules and routes. What stands already is left alone, Weft's own leftovers with other marks are replaced; twice is once.
/// A node without IPv6 gets IPv4 only, which is logged.
///
/// # Errors
/// If the kernel refuses, or something foreign stands in the way; then nothing has been written for that address family.
pub async fn install(settings: &KernelSettings) -> Result<(), SteeringError> {
    let node = Node::look().await?;
    if !node.has_v6 {
        tracing::info!("IPv6 is off on this node: steering is installed for IPv4 only");
    }
    for version in node.families() {
        let plan = node.plan(settings, &version).await?;
        node.carry_out(plan).await?;
    }
    Ok(())
}

/// Removes Weft's own rules, at whatever preference, and its routes in the tables that they lead to and in the settings'. What is not there
/// is fine. Says how many rules and routes it removed.
///
/// # Errors
/// If the kernel refuses.
pub async fn remove(settings: &KernelSettings) -> Result<usize, SteeringError> {
    let node = Node::look().await?;
    let mut removed = 0;
    // also where IPv6 was turned off since: its rules outlive that
    for version in [IpVersion::V4, IpVersion::V6] {
        let rules = node.rules(&version).await?;
        let mut tables = plan::own_tables(&rules);
        tables.insert(settings.route_table);
        let mut routes = Vec::new();
        for table in tables {
            routes.extend(node.routes(table, &version).await?);
        }
        let plan = plan::removal(&rules, &routes);
        removed += plan.deletions();
        node.carry_out(plan).await?;
    }
    Ok(removed)
}

/// Whether everything stands as [`install`] writes it. What cannot be read counts as missing.
pub async fn is_installed(settings: &KernelSettings) -> bool {
    let check = async {
        let node = Node::look().await?;
        for version in node.families() {
            if !node.plan(settings, &version).await?.is_empty() {
                return Ok(false);
            }
        }
        Ok::<_, SteeringError>(true)
    };
    check.await.unwrap_or_else(|error| {
        tracing::debug!(%error, "steering could not be read");
        false
    })
}

/// This network namespace: a connection to its routing tables, and what it can do.
struct Node {
    handle: Handle,
    loopback: u32,
    has_v6: bool,
}

impl Node {
    async fn look() -> Result<Self, SteeringError> {
        let handle = connect().map_err(|error| refused("open a netlink socket", error))?;
        let links = dump(handle.link().get().match_name("lo").execute())
            .await
            .map_err(|error| refused("find lo", error))?;
        let link = links
            .first()
            .ok_or_else(|| refused("find lo", io::ErrorKind::NotFound.into()))?;
        Ok(Self {
            handle,
            loopback: link.header.index,
            has_v6: has_v6(&link.attributes),
        })
    }

    fn families(&self) -> Vec<IpVersion> {
        if self.has_v6 {
            vec![IpVersion::V4, IpVersion::V6]
        } else {
            vec![IpVersion::V4]
        }
    }

    async fn plan(&self, settings: &KernelSettings, version: &IpVersion) -> Result<Plan, SteeringError> {
        let rules = self.rules(version).await?;
        let routes = self.routes(settings.route_table, version).await?;
        plan::installation(settings, version, self.loopback, &rules, &routes).map_err(|foreign| match foreign {
            Foreign::Rule(rule) => SteeringError::ForeignRule(rule),
            Foreign::Route(route) => SteeringError::ForeignRoute {
                table: settings.route_table,
                route,
            },
        })
    }

    async fn rules(&self, version: &IpVersion) -> Result<Vec<RuleMessage>, SteeringError> {
        let rules = self.handle.rule().get(version.clone()).execute();
        dump(rules)
            .await
            .map_err(|error| refused("read the routing rules", error))
    }

    async fn routes(&self, table: u32, version: &IpVersion) -> Result<Vec<RouteMessage>, SteeringError> {
        let mut message = RouteMessage::default();
        message.header.address_family = plan::family(version);
        message.attributes.push(RouteAttribute::Table(table));
        let routes = dump(self.handle.route().get(message).execute()).await;
        let mut routes = routes.map_err(|error| refused("read the routing table", error))?;
        routes.retain(|route| plan::table_of(route) == table);
        Ok(routes)
    }

    /// Routes before the rules that lead to them; on the way out the rules first. So no packet meets a rule to an empty table.
    async fn carry_out(&self, plan: Plan) -> Result<(), SteeringError> {
        for rule in plan.delete_rules {
            gone(self.handle.rule().del(rule).execute().await, "remove a routing rule")?;
        }
        for route in plan.delete_routes {
            gone(self.handle.route().del(route).execute().await, "remove a route")?;
        }
        for route in plan.add_routes {
            there(self.handle.route().add(route).execute().await, "add the route to lo")?;
        }
        for rule in plan.add_rules {
            let mut request = self.handle.rule().add();
            *request.message_mut() = rule;
            there(request.execute().await, "add a routing rule")?;
        }
        Ok(())
    }
}

/// `lo` has IPv6 settings only if the kernel has IPv6, and they say whether it is on (`net.ipv6.conf.lo.disable_ipv6`).
fn has_v6(attributes: &[LinkAttribute]) -> bool {
    let families = attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::AfSpecUnspec(families) => Some(families),
        _ => None,
    });
    let inet6 = families.into_iter().flatten().find_map(|family| match family {
        AfSpecUnspec::Inet6(inet6) => Some(inet6),
        _ => None,
    });
    inet6
        .into_iter()
        .flatten()
        .any(|part| matches!(part, AfSpecInet6::DevConf(conf) if conf.disable_ipv6 == 0))
}

/// Deletion of what is not there is fine.
fn gone(result: Result<(), rtnetlink::Error>, doing: &'static str) -> Result<(), SteeringError> {
    match result {
        Err(error) if matches!(errno_of(&error), libc::ENOENT | libc::ESRCH | libc::EAFNOSUPPORT) => Ok(()),
        result => result.map_err(|error| refused_by_rtnetlink(doing, error)),
    }
}

/// Addition of what somebody (another instance that starts) added meanwhile is fine.
fn there(result: Result<(), rtnetlink::Error>, doing: &'static str) -> Result<(), SteeringError> {
    match result {
        Err(error) if errno_of(&error) == libc::EEXIST => Ok(()),
        result => result.map_err(|error| refused_by_rtnetlink(doing, error)),
    }
}

fn refused_by_rtnetlink(doing: &'static str, error: rtnetlink::Error) -> SteeringError {
    match errno_of(&error) {
        0 => refused(doing, io::Error::other(error)),
        errno => refused(doing, io::Error::from_raw_os_error(errno)),
    }
}

fn refused(doing: &'static str, error: io::Error) -> SteeringError {
    match error.raw_os_error() {
        Some(libc::EPERM) => SteeringError::NotPermitted,
        Some(libc::ENETDOWN) => SteeringError::LoopbackDown,
        _ => SteeringError::Kernel(doing, error),
    }
}
