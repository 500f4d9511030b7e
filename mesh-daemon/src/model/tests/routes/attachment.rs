//! Which addresses, ports and clients a route holds for.

use super::{
    super::{
        super::{AppProtocol, Content, HttpRoute, Inputs, RouteParent, Service, ServiceKind, build},
        empty, object, service, set_aside,
    },
    any, exact, met, parent, prefix, route, rule, three,
};

/// Address and port, whose clients (`*` for all), and the routes whose rules stand there.
fn attached(content: &Content) -> Vec<String> {
    let groups = content
        .routes
        .iter()
        .flat_map(|(at, routes)| routes.groups().map(move |group| (at, group)));
    groups
        .map(|(at, (clients, table))| {
            let names: Vec<_> = table.rules.iter().map(|rule| rule.route.to_string()).collect();
            format!("{at} {} {}", clients.unwrap_or("*"), names.join(" "))
        })
        .collect()
}

/// Service `shop/web` with two ports in both families.
fn dual() -> Inputs {
    let mut inputs = empty();
    inputs.service(
        "shop/web",
        service(&["10.96.0.1", "fd00:96::1"], &[("http", 80), ("admin", 81)]),
    );
    inputs
}

fn with_parents(parents: &[RouteParent]) -> HttpRoute {
    HttpRoute {
        parents: parents.to_vec(),
        ..route(&[rule(&[any()])])
    }
}

fn narrowed(port: Option<u16>, section: Option<&str>) -> RouteParent {
    RouteParent {
        port,
        section_name: section.map(str::to_owned),
        ..parent("shop/web")
    }
}

#[test]
fn a_parent_is_all_addresses_and_ports_that_it_does_not_narrow() {
    let at_80 = ["10.96.0.1:80 * shop/r", "[fd00:96::1]:80 * shop/r"];
    let at_81 = ["10.96.0.1:81 * shop/r", "[fd00:96::1]:81 * shop/r"];
    let everywhere = [at_80[0], at_81[0], at_80[1], at_81[1]];
    let without_namespace = RouteParent {
        namespace: None,
        ..narrowed(None, None)
    };
    for (parents, expected) in [
        (vec![narrowed(None, None)], &everywhere[..]),
        (vec![without_namespace], &everywhere),
        (vec![narrowed(Some(80), None)], &at_80),
        (vec![narrowed(None, Some("admin"))], &at_81),
        (vec![narrowed(Some(80), Some("http"))], &at_80),
        (vec![narrowed(Some(80), Some("admin"))], &[]),
        (vec![narrowed(Some(82), None)], &[]),
        (vec![narrowed(None, Some("Http"))], &[]),
        (
            vec![narrowed(Some(80), None), narrowed(None, Some("admin"))],
            &everywhere,
        ),
        (vec![narrowed(Some(80), None), narrowed(None, None)], &everywhere),
        (vec![parent("shop/gone"), narrowed(Some(80), None)], &at_80),
    ] {
        let mut inputs = dual();
        inputs.http_route("shop/r", with_parents(&parents));
        assert_eq!(attached(&build(&inputs)), expected, "{parents:?}");
    }
}

#[test]
fn some_services_can_be_no_parents() {
    for kind in [
        ServiceKind::Headless,
        ServiceKind::ExternalName,
        ServiceKind::LeftToKubeProxy,
    ] {
        let mut inputs = dual();
        inputs.http_route("shop/r", with_parents(&[parent("shop/web")]));
        inputs.service(
            "shop/web",
            Service {
                kind,
                ..service(&["10.96.0.1"], &[("http", 80)])
            },
        );
        assert_eq!(attached(&build(&inputs)), [""; 0], "{kind:?}");
    }
}

#[test]
fn a_port_that_carries_bytes_has_no_routes() {
    let mut inputs = dual();
    let shop = inputs.services.get_mut(&object("shop/web")).unwrap();
    shop.ports[1].app_protocol = AppProtocol::Opaque;
    let at_80 = ["10.96.0.1:80 * shop/r", "[fd00:96::1]:80 * shop/r"];
    for (parent, expected) in [
        (narrowed(None, None), &at_80[..]),
        (narrowed(Some(80), None), &at_80),
        (narrowed(Some(81), None), &[]),
        (narrowed(None, Some("admin")), &[]),
    ] {
        inputs.http_route("shop/r", with_parents(std::slice::from_ref(&parent)));
        let content = build(&inputs);
        assert_eq!(attached(&content), expected, "{parent:?}");
        let accepted = &content.route_verdicts[&object("shop/r")].parents[0].1[0];
        assert_eq!(accepted.is_true, !expected.is_empty(), "{parent:?}: {accepted:?}");
        if !accepted.is_true {
            assert!(accepted.message.contains("`appProtocol` says"), "{accepted:?}");
        }
    }
}

#[test]
fn an_address_that_another_service_has_is_not_routed() {
    let mut inputs = dual();
    inputs.service("shop/zeb", service(&["10.96.0.1", "10.96.0.2"], &[("", 80)]));
    inputs.http_route("shop/r", with_parents(&[parent("shop/zeb")]));
    let content = build(&inputs);
    assert_eq!(attached(&content), ["10.96.0.2:80 * shop/r"]);
    assert_eq!(set_aside(&content), ["Service shop/zeb cluster_ip_conflict"]);
}

#[test]
fn of_two_ports_with_one_number_the_first_is_meant() {
    for (section, expected) in [("a", &["10.96.0.1:80 * shop/r"][..]), ("b", &[])] {
        let mut inputs = empty();
        inputs.service("shop/web", service(&["10.96.0.1"], &[("a", 80), ("b", 80)]));
        inputs.http_route("shop/r", with_parents(&[narrowed(None, Some(section))]));
        assert_eq!(attached(&build(&inputs)), expected, "{section}");
    }
}

#[test]
fn a_consumers_routes_replace_the_producers_for_its_own_clients_alone() {
    let mut inputs = three();
    inputs
        .http_route("shop/all", route(&[rule(&[prefix("/all")])]))
        .http_route("blog/own", route(&[rule(&[prefix("/own")])]))
        .http_route("blog/more", route(&[rule(&[exact("/own")])]));
    let content = build(&inputs);
    assert_eq!(
        attached(&content),
        ["10.96.0.1:80 * shop/all", "10.96.0.1:80 blog blog/more blog/own"]
    );
    for (client, request, expected) in [
        (None, "GET /all", "shop/all[0]"),
        (Some("shop"), "GET /all", "shop/all[0]"),
        (Some("news"), "GET /all", "shop/all[0]"),
        (Some("news"), "GET /own", "-"),
        (Some("blog"), "GET /own", "blog/more[0]"),
        (Some("blog"), "GET /own/x", "blog/own[0]"),
        (Some("blog"), "GET /all", "-"),
    ] {
        assert_eq!(met(&content, client, request, &[]), expected, "{client:?} {request}");
    }
}

#[test]
fn without_a_producers_route_other_clients_are_not_routed() {
    let mut inputs = three();
    inputs.http_route("blog/own", route(&[rule(&[any()])]));
    let content = build(&inputs);
    let at = super::WEB.parse().unwrap();
    assert!(content.route_table(Some("blog"), at).is_some());
    assert!(content.route_table(Some("shop"), at).is_none());
    assert!(content.route_table(None, at).is_none());
    assert!(
        content
            .route_table(Some("blog"), "10.96.0.2:80".parse().unwrap())
            .is_none()
    );
}

#[test]
fn a_consumers_route_of_one_port_leaves_the_others_to_the_producer() {
    let mut inputs = dual();
    inputs
        .http_route("shop/all", with_parents(&[narrowed(None, None)]))
        .http_route("blog/own", with_parents(&[narrowed(Some(80), None)]));
    let content = build(&inputs);
    let of_blog = |at: &str| {
        let table = content.route_table(Some("blog"), at.parse().unwrap());
        table.unwrap().rules[0].route.to_string()
    };
    assert_eq!(of_blog("10.96.0.1:80"), "blog/own");
    assert_eq!(of_blog("10.96.0.1:81"), "shop/all");
}

#[test]
fn a_route_without_rules_leaves_its_requests_without_one() {
    let mut inputs = three();
    inputs.http_route("shop/r", route(&[]));
    assert_eq!(met(&build(&inputs), None, "GET /", &[]), "-");
}

#[test]
fn a_routed_port_is_steered_even_without_an_endpoint() {
    let mut inputs = dual();
    inputs.http_route("shop/r", with_parents(&[narrowed(Some(80), None)]));
    let content = build(&inputs);
    let steered: Vec<_> = content
        .tables
        .services
        .iter()
        .map(|(key, value)| format!("{} {} {}", key.addr, key.port, value.endpoints))
        .collect();
    assert_eq!(steered, ["10.96.0.1 80 0", "fd00:96::1 80 0"]);
}
