//! The kernel's dumps → [`Facts`]: pure.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use rtnetlink::packet_route::{
    address::{AddressAttribute, AddressMessage},
    link::{InfoKind, LinkAttribute, LinkInfo, LinkLayerType, LinkMessage},
    neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState},
    route::{RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteScope, RouteType},
};

use crate::model::{Facts, Link, LinkKind};

/// What the kernel shows of one network namespace.
#[derive(Clone, Debug, Default)]
pub struct Dumps {
    /// Every interface.
    pub links: Vec<LinkMessage>,
    /// Every address, IPv4 and IPv6.
    pub addresses: Vec<AddressMessage>,
    /// Routes, IPv4 and IPv6; those outside the main table are passed over.
    pub routes: Vec<RouteMessage>,
    /// Neighbour entries, IPv4 and IPv6.
    pub neighbours: Vec<NeighbourMessage>,
}

/// Links, the node's own addresses (link-local and loopback ones included), and what is on-link: host routes first, neighbour entries for
/// addresses that have none. The node's own addresses and link-local ones (which are the same on many links) are never on-link, nor are
/// neighbours behind an interface with a gateway: on a flat network a pod's address may stay there from the node that it was on before.
pub fn facts_from(dumps: &Dumps) -> Facts {
    let links: BTreeMap<u32, Link> = dumps.links.iter().filter_map(link).collect();
    let node_addresses: BTreeSet<IpAddr> = dumps.addresses.iter().filter_map(address).collect();
    let uplinks: BTreeSet<u32> = dumps.routes.iter().flat_map(gateway_interfaces).collect();
    let claims = dumps.routes.iter().filter_map(host_route).chain(
        dumps
            .neighbours
            .iter()
            .filter_map(neighbour)
            .filter(|claim| !uplinks.contains(&claim.interface)),
    );
    let mut best: BTreeMap<IpAddr, Claim> = BTreeMap::new();
    for claim in claims {
        let leads_out = links
            .get(&claim.interface)
            .is_some_and(|link| link.kind != LinkKind::Loopback);
        if !leads_out || node_addresses.contains(&claim.address) || !is_unicast(claim.address) {
            continue;
        }
        let entry = best.entry(claim.address).or_insert(claim);
        // the interface's index last, so that the order of a dump never matters
        if (claim.rank, claim.interface) < (entry.rank, entry.interface) {
            *entry = claim;
        }
    }
    let on_link = best
        .into_values()
        .map(|claim| (claim.address, claim.interface))
        .collect();
    Facts {
        node_addresses,
        links,
        on_link,
    }
}

/// "This address is behind that interface"; the lowest rank wins.
#[derive(Clone, Copy)]
struct Claim {
    address: IpAddr,
    interface: u32,
    rank: Rank,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    /// With its metric: the kernel takes the lowest.
    Route(u32),
    /// Written by an administrator or a CNI.
    Permanent,
    /// Answered lately.
    Confirmed,
    /// Answered once; a pod that is silent for a minute has such an entry.
    Stale,
    /// Needs no resolution: point-to-point devices.
    NoArp,
}

fn link(message: &LinkMessage) -> Option<(u32, Link)> {
    let mut name = None;
    let mut master = None;
    let mut is_bridge = false;
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(text) => name = Some(text.clone()),
            LinkAttribute::Controller(index) => master = Some(*index).filter(|index| *index != 0),
            LinkAttribute::LinkInfo(infos) => is_bridge = infos.contains(&LinkInfo::Kind(InfoKind::Bridge)),
            _ => {}
        }
    }
    let kind = match message.header.link_layer_type {
        LinkLayerType::Loopback => LinkKind::Loopback,
        LinkLayerType::Ether if is_bridge => LinkKind::Bridge,
        LinkLayerType::Ether => LinkKind::Ethernet,
        _ => LinkKind::NoLinkLayer,
    };
    Some((
        message.header.index,
        Link {
            name: name?,
            kind,
            master,
        },
    ))
}

/// The node's end: on a point-to-point link `IFA_ADDRESS` is the peer's and `IFA_LOCAL` ours; IPv6 without a peer has only the former.
fn address(message: &AddressMessage) -> Option<IpAddr> {
    let local = message.attributes.iter().find_map(|attribute| match attribute {
        AddressAttribute::Local(ip) => Some(*ip),
        _ => None,
    });
    local.or_else(|| {
        message.attributes.iter().find_map(|attribute| match attribute {
            AddressAttribute::Address(ip) => Some(*ip),
            _ => None,
        })
    })
}

/// A route of the main table to one address, straight out of one interface.
fn host_route(message: &RouteMessage) -> Option<Claim> {
    let mut table = u32::from(message.header.table);
    let (mut destination, mut interface, mut metric) = (None, None, 0);
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Table(number) => table = *number,
            RouteAttribute::Destination(RouteAddress::Inet(ip)) => destination = Some(IpAddr::V4(*ip)),
            RouteAttribute::Destination(RouteAddress::Inet6(ip)) => destination = Some(IpAddr::V6(*ip)),
            RouteAttribute::Oif(index) => interface = Some(*index),
            RouteAttribute::Priority(number) => metric = *number,
            RouteAttribute::Gateway(_)
            | RouteAttribute::Via(_)
            | RouteAttribute::MultiPath(_)
            | RouteAttribute::Encap(_) => return None,
            _ => {}
        }
    }
    let address = destination?;
    let (bits, on_link) = match address {
        IpAddr::V4(_) => (32, matches!(message.header.scope, RouteScope::Link | RouteScope::Host)),
        // IPv6 routes have no scope: the kernel always shows universe
        IpAddr::V6(_) => (128, true),
    };
    let is_host = message.header.destination_prefix_length == bits && message.header.kind == RouteType::Unicast;
    (is_host && on_link && table == u32::from(RouteHeader::RT_TABLE_MAIN)).then_some(Claim {
        address,
        interface: interface?,
        rank: Rank::Route(metric),
    })
}

/// Interfaces through which a route leads to a gateway.
fn gateway_interfaces(message: &RouteMessage) -> Vec<u32> {
    let has_gateway = |attributes: &[RouteAttribute]| {
        attributes
            .iter()
            .any(|attribute| matches!(attribute, RouteAttribute::Gateway(_) | RouteAttribute::Via(_)))
    };
    let direct = has_gateway(&message.attributes);
    message
        .attributes
        .iter()
        .flat_map(|attribute| match attribute {
            RouteAttribute::Oif(index) if direct => vec![*index],
            RouteAttribute::MultiPath(hops) => hops
                .iter()
                .filter(|hop| has_gateway(&hop.attributes))
                .map(|hop| hop.interface_index)
                .collect(),
            _ => Vec::new(),
        })
        .collect()
}

fn neighbour(message: &NeighbourMessage) -> Option<Claim> {
    let rank = match message.header.state {
        NeighbourState::Permanent => Rank::Permanent,
        NeighbourState::Reachable | NeighbourState::Delay | NeighbourState::Probe => Rank::Confirmed,
        NeighbourState::Stale => Rank::Stale,
        NeighbourState::Noarp => Rank::NoArp,
        // nobody has answered there
        _ => return None,
    };
    let address = message.attributes.iter().find_map(|attribute| match attribute {
        NeighbourAttribute::Destination(NeighbourAddress::Inet(ip)) => Some(IpAddr::V4(*ip)),
        NeighbourAttribute::Destination(NeighbourAddress::Inet6(ip)) => Some(IpAddr::V6(*ip)),
        _ => None,
    });
    Some(Claim {
        address: address?,
        interface: message.header.ifindex,
        rank,
    })
}

fn is_unicast(address: IpAddr) -> bool {
    let is_link_local = match address {
        IpAddr::V4(ip) => ip.is_link_local() || ip.is_broadcast(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    };
    !is_link_local && !address.is_multicast() && !address.is_unspecified() && !address.is_loopback()
}

#[cfg(test)]
mod tests;
