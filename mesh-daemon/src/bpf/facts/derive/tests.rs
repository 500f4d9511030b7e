//! Dumps as the kernel gives them → facts.

use rtnetlink::packet_route::AddressFamily;

use super::*;

const LO: u32 = 1;
const UPLINK: u32 = 2;
const VETH: u32 = 3;
const OTHER_VETH: u32 = 4;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn link_message(index: u32, name: &str, layer: LinkLayerType, more: &[LinkAttribute]) -> LinkMessage {
    let mut message = LinkMessage::default();
    message.header.index = index;
    message.header.link_layer_type = layer;
    message.attributes.push(LinkAttribute::IfName(name.to_owned()));
    message.attributes.extend_from_slice(more);
    message
}

fn node() -> Dumps {
    let ether = |index, name| link_message(index, name, LinkLayerType::Ether, &[]);
    let lo = link_message(LO, "lo", LinkLayerType::Loopback, &[]);
    Dumps {
        links: vec![
            lo,
            ether(UPLINK, "eth0"),
            ether(VETH, "veth1"),
            ether(OTHER_VETH, "veth2"),
        ],
        ..Dumps::default()
    }
}

fn address_message(attributes: &[AddressAttribute]) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.attributes.extend_from_slice(attributes);
    message
}

fn route(destination: &str, bits: u8, interface: u32) -> RouteMessage {
    let mut message = RouteMessage::default();
    let address = ip(destination);
    message.header.table = RouteHeader::RT_TABLE_MAIN;
    message.header.kind = RouteType::Unicast;
    message.header.scope = if address.is_ipv4() {
        RouteScope::Link
    } else {
        RouteScope::Universe
    };
    message.header.destination_prefix_length = bits;
    message.attributes = vec![
        RouteAttribute::Destination(address.into()),
        RouteAttribute::Oif(interface),
    ];
    message
}

fn with(mut route: RouteMessage, change: impl FnOnce(&mut RouteMessage)) -> RouteMessage {
    change(&mut route);
    route
}

fn neighbour_message(address: &str, interface: u32, state: NeighbourState) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    message.header.ifindex = interface;
    message.header.state = state;
    let (family, address) = match ip(address) {
        IpAddr::V4(ip) => (AddressFamily::Inet, NeighbourAddress::Inet(ip)),
        IpAddr::V6(ip) => (AddressFamily::Inet6, NeighbourAddress::Inet6(ip)),
    };
    message.header.family = family;
    message.attributes.push(NeighbourAttribute::Destination(address));
    message
}

fn check(dumps: &Dumps, expected: &[(&str, u32)], case: &str) {
    let expected: BTreeMap<_, _> = expected
        .iter()
        .map(|(address, interface)| (ip(address), *interface))
        .collect();
    assert_eq!(facts_from(dumps).on_link, expected, "{case}");
}

fn check_route(route: RouteMessage, expected: &[(&str, u32)], case: &str) {
    check(
        &Dumps {
            routes: vec![route],
            ..node()
        },
        expected,
        case,
    );
}

#[test]
fn links_have_name_kind_and_master() {
    let bridge = LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Bridge)]);
    let links = vec![
        link_message(1, "lo", LinkLayerType::Loopback, &[]),
        link_message(2, "br0", LinkLayerType::Ether, &[bridge]),
        link_message(3, "veth1", LinkLayerType::Ether, &[LinkAttribute::Controller(2)]),
        link_message(4, "wg0", LinkLayerType::None, &[]),
        link_message(5, "tunl0", LinkLayerType::Tunnel, &[LinkAttribute::Controller(0)]),
    ];
    let link = |name: &str, kind, master| Link {
        name: name.to_owned(),
        kind,
        master,
    };
    let expected = BTreeMap::from([
        (1, link("lo", LinkKind::Loopback, None)),
        (2, link("br0", LinkKind::Bridge, None)),
        (3, link("veth1", LinkKind::Ethernet, Some(2))),
        (4, link("wg0", LinkKind::NoLinkLayer, None)),
        (5, link("tunl0", LinkKind::NoLinkLayer, None)),
    ]);
    assert_eq!(
        facts_from(&Dumps {
            links,
            ..Dumps::default()
        })
        .links,
        expected
    );
}

#[test]
fn every_own_address_counts_and_a_peers_does_not() {
    let addresses = vec![
        address_message(&[
            AddressAttribute::Address(ip("127.0.0.1")),
            AddressAttribute::Local(ip("127.0.0.1")),
        ]),
        address_message(&[
            AddressAttribute::Address(ip("10.0.0.2")),
            AddressAttribute::Local(ip("10.0.0.1")),
        ]),
        address_message(&[AddressAttribute::Address(ip("fe80::1"))]),
        address_message(&[
            AddressAttribute::Address(ip("fd00::2")),
            AddressAttribute::Local(ip("fd00::1")),
        ]),
        address_message(&[]),
    ];
    let expected = ["127.0.0.1", "10.0.0.1", "fe80::1", "fd00::1"].map(ip).into();
    assert_eq!(
        facts_from(&Dumps {
            addresses,
            ..Dumps::default()
        })
        .node_addresses,
        expected
    );
}

#[test]
fn host_routes_without_gateway_are_on_link() {
    let v4 = || route("10.1.0.5", 32, VETH);
    let v6 = || route("fd00::5", 128, VETH);
    check_route(v4(), &[("10.1.0.5", VETH)], "IPv4");
    check_route(v6(), &[("fd00::5", VETH)], "IPv6");
    check_route(
        with(v4(), |route| route.header.scope = RouteScope::Host),
        &[("10.1.0.5", VETH)],
        "scope host",
    );
    check_route(
        with(v4(), |route| route.header.scope = RouteScope::Universe),
        &[],
        "scope universe",
    );
    check_route(route("10.1.0.0", 24, UPLINK), &[], "a network");
    check_route(route("fd00::", 64, UPLINK), &[], "an IPv6 network");
    check_route(route("127.0.0.9", 32, LO), &[], "loopback");
    check_route(route("10.1.0.5", 32, 99), &[], "an interface that is gone");
    check_route(route("fe80::5", 128, VETH), &[], "link-local");
    check_route(with(v4(), |route| route.header.kind = RouteType::Local), &[], "local");
    check_route(
        with(v4(), |route| route.header.kind = RouteType::Broadcast),
        &[],
        "broadcast",
    );
    check_route(with(v4(), |route| route.header.table = 255), &[], "table local");
    check_route(
        with(v4(), |route| route.attributes.push(RouteAttribute::Table(1000))),
        &[],
        "another table",
    );
    let gateway = RouteAttribute::Gateway(ip("10.0.0.1").into());
    check_route(
        with(v4(), |route| route.attributes.push(gateway)),
        &[],
        "behind a gateway",
    );
    let own = address_message(&[AddressAttribute::Address(ip("fd00::5"))]);
    check(
        &Dumps {
            routes: vec![v6()],
            addresses: vec![own],
            ..node()
        },
        &[],
        "the node's own address",
    );
}

#[test]
fn neighbours_count_where_there_is_no_host_route() {
    for (state, counts) in [
        (NeighbourState::Permanent, true),
        (NeighbourState::Reachable, true),
        (NeighbourState::Stale, true),
        (NeighbourState::Delay, true),
        (NeighbourState::Probe, true),
        (NeighbourState::Noarp, true),
        (NeighbourState::Failed, false),
        (NeighbourState::Incomplete, false),
        (NeighbourState::None, false),
    ] {
        let expected: &[(&str, u32)] = if counts { &[("10.1.0.5", VETH)] } else { &[] };
        let neighbours = vec![neighbour_message("10.1.0.5", VETH, state)];
        check(&Dumps { neighbours, ..node() }, expected, &format!("{state:?}"));
    }
    let neighbours = vec![neighbour_message("10.1.0.5", UPLINK, NeighbourState::Permanent)];
    let routes = vec![route("10.1.0.5", 32, VETH)];
    check(
        &Dumps {
            neighbours,
            routes,
            ..node()
        },
        &[("10.1.0.5", VETH)],
        "the route wins",
    );
    let neighbours = vec![
        neighbour_message("ff02::1", VETH, NeighbourState::Noarp),
        neighbour_message("fe80::9", VETH, NeighbourState::Reachable),
        neighbour_message("127.0.0.1", LO, NeighbourState::Noarp),
    ];
    check(&Dumps { neighbours, ..node() }, &[], "multicast, link-local, loopback");
}

#[test]
fn a_neighbour_behind_a_gateways_interface_is_no_pod() {
    let neighbours = vec![neighbour_message("10.1.0.5", UPLINK, NeighbourState::Stale)];
    let default = |attributes: &[RouteAttribute]| {
        with(route("0.0.0.0", 0, UPLINK), |route| {
            route.attributes.extend_from_slice(attributes);
        })
    };
    let gateway = RouteAttribute::Gateway(RouteAddress::Inet([10, 9, 0, 1].into()));
    for (attributes, expected) in [
        (&[][..], &[("10.1.0.5", UPLINK)][..]),
        (std::slice::from_ref(&gateway), &[]),
    ] {
        let routes = vec![default(attributes)];
        let neighbours = neighbours.clone();
        check(
            &Dumps {
                neighbours,
                routes,
                ..node()
            },
            expected,
            &format!("{attributes:?}"),
        );
    }
}

#[test]
fn of_two_claims_the_better_wins_whatever_the_order() {
    let metric = |interface, metric| {
        with(route("10.1.0.5", 32, interface), |route| {
            route.attributes.push(RouteAttribute::Priority(metric));
        })
    };
    let stale = neighbour_message("10.1.0.6", VETH, NeighbourState::Stale);
    let fresh = neighbour_message("10.1.0.6", OTHER_VETH, NeighbourState::Reachable);
    let mut dumps = Dumps {
        routes: vec![metric(VETH, 20), metric(OTHER_VETH, 10)],
        neighbours: vec![stale, fresh],
        ..node()
    };
    let expected = [("10.1.0.5", OTHER_VETH), ("10.1.0.6", OTHER_VETH)];
    check(&dumps, &expected, "metric and state");
    dumps.routes.reverse();
    dumps.neighbours.reverse();
    check(&dumps, &expected, "the other way round");
    let routes = vec![route("10.1.0.5", 32, OTHER_VETH), route("10.1.0.5", 32, VETH)];
    check(
        &Dumps { routes, ..node() },
        &[("10.1.0.5", VETH)],
        "equal: the lower index",
    );
}
