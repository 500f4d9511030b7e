//! Where connections to services go.

use std::net::SocketAddr;

use super::{
    super::{AppProtocol, Content, Endpoint, Inputs, build},
    empty, ip, object, ready, remote, service, set_aside, slice,
};

const CLUSTER_IP: &str = "10.96.0.1";
const AT_80: &str = "10.96.0.1:80";

/// Service `shop/web`, port 80, with these endpoints at port 8080.
fn web(endpoints: &[Endpoint]) -> Inputs {
    let mut inputs = empty();
    inputs
        .service("shop/web", service(&[CLUSTER_IP], &[("", 80)]))
        .slice("shop/web-1", slice("web", &[("", 8080)], endpoints));
    inputs
}

fn endpoints(content: &Content, at: &str) -> Vec<String> {
    let upstream = content.upstream(at.parse().unwrap());
    let endpoints = upstream
        .map(|upstream| upstream.endpoints.as_slice())
        .unwrap_or_default();
    endpoints.iter().map(|endpoint| endpoint.address.to_string()).collect()
}

/// Address, port and number of endpoints of all that is steered.
fn steered(content: &Content) -> Vec<String> {
    let services = &content.tables.services;
    services
        .iter()
        .map(|(key, value)| format!("{} {} {}", key.addr, key.port, value.endpoints))
        .collect()
}

#[test]
fn only_ready_endpoints_serve_in_the_order_of_their_addresses() {
    let starting = Endpoint {
        ready: false,
        serving: false,
        ..ready("10.0.0.3")
    };
    let terminating = Endpoint {
        ready: false,
        serving: true,
        terminating: true,
        ..ready("10.0.0.4")
    };
    let content = build(&web(&[ready("10.0.0.2"), starting, ready("10.0.0.1"), terminating]));
    assert_eq!(endpoints(&content, AT_80), ["10.0.0.1:8080", "10.0.0.2:8080"]);
    assert_eq!(steered(&content), ["10.96.0.1 80 2"]);
}

#[test]
fn endpoints_on_their_way_out_serve_while_none_is_ready() {
    let leaving = |address| Endpoint {
        ready: false,
        terminating: true,
        ..ready(address)
    };
    let gone = Endpoint {
        serving: false,
        ..leaving("10.0.0.2")
    };
    let content = build(&web(&[leaving("10.0.0.3"), gone.clone(), leaving("10.0.0.1")]));
    assert_eq!(endpoints(&content, AT_80), ["10.0.0.1:8080", "10.0.0.3:8080"]);
    assert_eq!(steered(&content), ["10.96.0.1 80 2"]);
    let content = build(&web(&[leaving("10.0.0.3"), gone, ready("10.0.0.4")]));
    assert_eq!(endpoints(&content, AT_80), ["10.0.0.4:8080"]);
}

#[test]
fn a_port_without_a_ready_endpoint_is_known_and_not_steered() {
    let unready = Endpoint {
        ready: false,
        ..ready("10.0.0.1")
    };
    let mut without_slice = web(&[]);
    without_slice.endpoint_slices.clear();
    for inputs in [web(&[]), web(&[unready]), without_slice] {
        let content = build(&inputs);
        let upstream = content.upstream(AT_80.parse().unwrap()).unwrap();
        assert_eq!(upstream.service, object("shop/web"));
        assert!(upstream.endpoints.is_empty());
        assert_eq!(steered(&content), [""; 0]);
    }
}

#[test]
fn slices_of_another_namespace_or_service_are_not_ours() {
    let mut inputs = web(&[ready("10.0.0.1")]);
    inputs
        .slice("other/web-1", slice("web", &[("", 8080)], &[ready("10.0.0.2")]))
        .slice("shop/else-1", slice("else", &[("", 8080)], &[ready("10.0.0.3")]));
    assert_eq!(endpoints(&build(&inputs), AT_80), ["10.0.0.1:8080"]);
}

#[test]
fn each_address_has_the_endpoints_of_its_own_family() {
    let mut inputs = web(&[ready("10.0.0.1")]);
    inputs
        .service("shop/web", service(&[CLUSTER_IP, "fd00:96::1"], &[("", 80)]))
        .slice("shop/web-6", slice("web", &[("", 8080)], &[ready("fd00::1")]));
    let content = build(&inputs);
    assert_eq!(endpoints(&content, AT_80), ["10.0.0.1:8080"]);
    assert_eq!(endpoints(&content, "[fd00:96::1]:80"), ["[fd00::1]:8080"]);
}

#[test]
fn ports_meet_by_name_over_all_slices_and_each_endpoint_counts_once() {
    let mut inputs = empty();
    let ports = [("http", 8080), ("admin", 9090)];
    inputs
        .service(
            "shop/web",
            service(&[CLUSTER_IP], &[("http", 80), ("admin", 81), ("x", 82)]),
        )
        .slice(
            "shop/web-1",
            slice("web", &ports, &[ready("10.0.0.1"), ready("10.0.0.2")]),
        )
        .slice("shop/web-2", slice("web", &ports, &[ready("10.0.0.2")]))
        // a named target port may differ from pod to pod
        .slice("shop/web-3", slice("web", &[("http", 8888)], &[ready("10.0.0.3")]));
    let content = build(&inputs);
    assert_eq!(
        endpoints(&content, AT_80),
        ["10.0.0.1:8080", "10.0.0.2:8080", "10.0.0.3:8888"]
    );
    assert_eq!(endpoints(&content, "10.96.0.1:81"), ["10.0.0.1:9090", "10.0.0.2:9090"]);
    assert_eq!(endpoints(&content, "10.96.0.1:82"), [""; 0]);
    assert_eq!(steered(&content), ["10.96.0.1 80 3", "10.96.0.1 81 2"]);
}

#[test]
fn the_services_app_protocol_comes_before_the_slices() {
    use AppProtocol::{Detect, Http, Http2, Opaque};
    for (of_service, of_slices, expected) in [
        (Detect, [Detect, Detect], Detect),
        (Http, [Opaque, Opaque], Http),
        (Detect, [Http2, Detect], Http2),
        (Detect, [Detect, Opaque], Opaque),
        // contradictory slices: the first by name
        (Detect, [Http, Opaque], Http),
    ] {
        let mut inputs = web(&[]);
        inputs.services.get_mut(&object("shop/web")).unwrap().ports[0].app_protocol = of_service;
        for (name, app_protocol) in ["shop/web-1", "shop/web-2"].into_iter().zip(of_slices) {
            let mut slice = slice("web", &[("", 8080)], &[]);
            slice.ports[0].app_protocol = app_protocol;
            inputs.slice(name, slice);
        }
        let content = build(&inputs);
        let upstream = content.upstream(AT_80.parse().unwrap()).unwrap();
        assert_eq!(upstream.app_protocol, expected, "{of_service:?} {of_slices:?}");
    }
}

#[test]
fn an_endpoint_is_known_by_its_address() {
    let mut inputs = web(&[ready("10.0.0.1"), ready("10.0.0.2")]);
    inputs.pod("shop/p", remote(&["10.0.0.1"]));
    let content = build(&inputs);
    let upstream = content.upstream(AT_80.parse().unwrap()).unwrap();
    let pods: Vec<_> = upstream
        .endpoints
        .iter()
        .map(|endpoint| endpoint.workload.as_ref().map(|workload| workload.pod.to_string()))
        .collect();
    assert_eq!(pods, [Some("shop/p".to_owned()), None]);
}

#[test]
fn endpoints_that_no_other_host_can_have_are_refused() {
    for (family, refused) in [
        (CLUSTER_IP, "127.0.0.1"),
        (CLUSTER_IP, "127.9.9.9"),
        (CLUSTER_IP, "0.0.0.0"),
        (CLUSTER_IP, "169.254.169.254"),
        (CLUSTER_IP, "224.0.0.1"),
        (CLUSTER_IP, "255.255.255.255"),
        ("fd00:96::1", "::1"),
        ("fd00:96::1", "::"),
        ("fd00:96::1", "fe80::1"),
        ("fd00:96::1", "ff02::1"),
        ("fd00:96::1", "::ffff:127.0.0.1"),
    ] {
        let good = if ip(family).is_ipv4() { "10.0.0.1" } else { "fd00::1" };
        let mut inputs = web(&[ready(refused), ready(good)]);
        inputs.service("shop/web", service(&[family], &[("", 80)]));
        let content = build(&inputs);
        let at = SocketAddr::new(ip(family), 80).to_string();
        assert_eq!(
            endpoints(&content, &at),
            [SocketAddr::new(ip(good), 8080).to_string()],
            "{refused}"
        );
        assert_eq!(set_aside(&content), ["Service shop/web invalid_endpoint"], "{refused}");
    }
}

#[test]
fn cluster_ips_that_no_service_can_have_are_refused() {
    for refused in [
        "10.1.1.1",
        "127.0.0.1",
        "0.0.0.0",
        "169.254.1.1",
        "224.0.0.1",
        "255.255.255.255",
        "::1",
        "fe80::1",
        "::ffff:10.96.0.1",
    ] {
        let mut inputs = web(&[ready("10.0.0.1")]);
        // the first of the list is the node's own
        inputs.facts.node_addresses.insert(ip("10.1.1.1"));
        inputs.service("shop/web", service(&[refused, CLUSTER_IP], &[("", 80)]));
        let content = build(&inputs);
        assert_eq!(steered(&content), ["10.96.0.1 80 1"], "{refused}");
        assert_eq!(content.upstreams.len(), 1, "{refused}");
        assert_eq!(
            set_aside(&content),
            ["Service shop/web invalid_cluster_ip"],
            "{refused}"
        );
    }
}

#[test]
fn of_two_services_with_one_address_the_first_by_name_has_it_whole() {
    let mut inputs = web(&[ready("10.0.0.1")]);
    inputs
        .service(
            "shop/zzz",
            service(&[CLUSTER_IP, "10.96.0.9"], &[("", 80), ("more", 81)]),
        )
        .slice(
            "shop/zzz-1",
            slice("zzz", &[("", 1), ("more", 1)], &[ready("10.0.0.9")]),
        );
    let content = build(&inputs);
    assert_eq!(endpoints(&content, AT_80), ["10.0.0.1:8080"]);
    assert_eq!(
        steered(&content),
        ["10.96.0.1 80 1", "10.96.0.9 80 1", "10.96.0.9 81 1"]
    );
    assert_eq!(set_aside(&content), ["Service shop/zzz cluster_ip_conflict"]);
}

#[test]
fn an_address_listed_twice_is_no_conflict_of_a_service_with_itself() {
    let mut inputs = web(&[ready("10.0.0.1")]);
    inputs.service("shop/web", service(&[CLUSTER_IP, CLUSTER_IP], &[("", 80)]));
    let content = build(&inputs);
    assert_eq!(steered(&content), ["10.96.0.1 80 1"]);
    assert_eq!(set_aside(&content), [""; 0]);
}

#[test]
fn of_a_port_listed_twice_the_first_serves() {
    let mut inputs = web(&[]);
    inputs
        .service("shop/web", service(&[CLUSTER_IP], &[("a", 80), ("b", 80)]))
        .slice("shop/web-1", slice("web", &[("a", 1), ("b", 2)], &[ready("10.0.0.1")]));
    let content = build(&inputs);
    assert_eq!(endpoints(&content, AT_80), ["10.0.0.1:1"]);
    assert_eq!(set_aside(&content), ["Service shop/web duplicate_port"]);
}

#[test]
fn headless_services_have_no_address_to_steer() {
    let mut inputs = web(&[ready("10.0.0.1")]);
    inputs.service("shop/web", service(&[], &[("", 80)]));
    let content = build(&inputs);
    assert!(content.upstreams.is_empty());
    assert_eq!(set_aside(&content), [""; 0]);
}
