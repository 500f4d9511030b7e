//! Where rules send, and what they do otherwise.

use core::time::Duration;
use std::sync::Arc;

use super::{
    super::{
        super::{
            Action, AppProtocol, BackendRef, BackendTarget, Family, HeaderChanges, HttpRoute, Inputs, RouteRetry,
            RouteRule, RouteTimeouts, RuleFailure, Service, ServiceKind, Target, build,
        },
        ip, object, ready, service, slice,
    },
    WEB, action, any, backend, exact, met,
    random::{fault, redirect},
    regex, route, rule, sends, three,
};

fn to(backends: &[BackendRef]) -> HttpRoute {
    route(&[RouteRule {
        backends: backends.to_vec(),
        ..rule(&[any()])
    }])
}

fn sent(inputs: &Inputs) -> Vec<String> {
    sends(action(&build(inputs), "shop/r", 0))
}

#[test]
fn backends_keep_their_order_and_weights() {
    let mut inputs = three();
    inputs.http_route(
        "shop/r",
        to(&[
            backend("shop/v2", 80, 10),
            backend("shop/v1", 80, 90),
            backend("shop/web", 80, 0),
        ]),
    );
    assert_eq!(
        sent(&inputs),
        ["10×shop/v2:80 1+0", "90×shop/v1:80 1+0", "0×shop/web:80 1+0"]
    );
}

#[test]
fn a_backend_is_a_service_port_of_any_namespace_in_both_families() {
    let mut inputs = three();
    let headless = Service {
        kind: ServiceKind::Headless,
        ..service(&[], &[("http", 8000)])
    };
    let left = Service {
        kind: ServiceKind::LeftToKubeProxy,
        ..service(&[], &[("http", 80)])
    };
    let ports = [("http", 8080)];
    inputs
        .service("other/pods", headless)
        .slice(
            "other/pods-4",
            slice("pods", &ports, &[ready("10.0.1.1"), ready("10.0.1.2")]),
        )
        .slice("other/pods-6", slice("pods", &ports, &[ready("fd00::1")]))
        .service("shop/left", left)
        .slice("shop/left-4", slice("left", &ports, &[ready("10.0.1.3")]))
        .slice("shop/v1-6", slice("v1", &ports, &[ready("fd00::2")]))
        .http_route(
            "shop/r",
            to(&[
                backend("other/pods", 8000, 1),
                backend("shop/left", 80, 1),
                backend("shop/v1", 80, 1),
            ]),
        );
    assert_eq!(
        sent(&inputs),
        ["1×other/pods:8000 2+1", "1×shop/left:80 1+0", "1×shop/v1:80 1+1"]
    );
}

#[test]
fn what_is_no_http_service_is_nobody() {
    let mut inputs = three();
    let external = Service {
        kind: ServiceKind::ExternalName,
        ..service(&[], &[("http", 80)])
    };
    let mut opaque = service(&["10.96.0.9"], &[("redis", 80)]);
    opaque.ports[0].app_protocol = AppProtocol::Opaque;
    let kind = BackendRef {
        target: BackendTarget::InvalidKind("`Secret` is not supported".to_owned()),
        ..backend("shop/v1", 80, 1)
    };
    inputs
        .service("shop/external", external)
        .service("shop/opaque", opaque)
        .http_route(
            "shop/r",
            to(&[
                backend("shop/gone", 80, 1),
                backend("shop/v1", 81, 2),
                backend("shop/external", 80, 3),
                backend("shop/opaque", 80, 4),
                kind,
                backend("shop/v1", 80, 1),
            ]),
        );
    assert_eq!(
        sent(&inputs),
        [
            "1×shop/gone:80?",
            "2×shop/v1:81?",
            "3×shop/external:80?",
            "4×shop/opaque:80?",
            "1×-?",
            "1×shop/v1:80 1+0"
        ]
    );
    let backends: Vec<_> = build(&inputs)
        .backends
        .into_keys()
        .map(|key| key.service.name)
        .collect();
    assert_eq!(backends, ["v1", "v1"], "in both families, and nobody else");
}

#[test]
fn a_rule_without_anybody_to_send_to_fails_or_answers() {
    let redirected = RouteRule {
        backends: Vec::new(),
        ..rule(&[any()])
    };
    let mut redirected = route(&[redirected]);
    redirected.rules[0].filters.redirect = Some(redirect());
    for (route, expected) in [
        (to(&[]), Action::Fail(RuleFailure::NoBackend)),
        (
            to(&[backend("shop/v1", 80, 0), backend("shop/v2", 80, 0)]),
            Action::Fail(RuleFailure::NoWeight),
        ),
        (redirected, Action::Redirect(redirect())),
    ] {
        let mut inputs = three();
        inputs.http_route("shop/r", route);
        assert_eq!(*action(&build(&inputs), "shop/r", 0), expected);
    }
}

#[test]
fn an_upstream_of_a_backend_is_the_addressed_one_where_there_is_one() {
    let mut inputs = three();
    inputs.http_route("shop/r", to(&[backend("shop/v1", 80, 1), backend("shop/web", 80, 1)]));
    let content = build(&inputs);
    let keys: Vec<_> = content
        .backends
        .keys()
        .map(|key| (key.service.name.as_str(), key.family))
        .collect();
    assert_eq!(
        keys,
        [
            ("v1", Family::V4),
            ("v1", Family::V6),
            ("web", Family::V4),
            ("web", Family::V6)
        ]
    );
    let Action::Forward(backends) = action(&content, "shop/r", 0) else {
        panic!()
    };
    for (backend, at) in backends.list.iter().zip(["10.96.0.2:80", WEB]) {
        let Target::Upstream { v4, v6 } = &backend.target else {
            panic!()
        };
        let addressed = content.upstream(at.parse().unwrap()).unwrap();
        assert!(Arc::ptr_eq(v4, addressed) && Arc::ptr_eq(v4, &content.backends[&v4.key()]));
        assert!(Arc::ptr_eq(v6, &content.backends[&v6.key()]) && v6.endpoints.is_empty());
        let target = &backend.target;
        assert!(Arc::ptr_eq(target.upstream(Family::V4).unwrap(), v4));
        assert!(
            Arc::ptr_eq(target.upstream(Family::V6).unwrap(), v4),
            "the other family's, which has endpoints"
        );
    }
}

#[test]
fn a_rule_that_cannot_be_applied_keeps_its_matches_and_fails() {
    let mut inputs = three();
    let mut faulty = rule(&[exact("/a"), regex("/(")]);
    faulty.filters.redirect = Some(redirect());
    let mut told = rule(&[exact("/b")]);
    told.faults.push(fault());
    inputs.http_route("shop/r", route(&[faulty, told, rule(&[any()])]));
    let content = build(&inputs);
    for (request, expected) in [
        ("GET /a", "shop/r[0]"),
        ("GET /b", "shop/r[1]"),
        ("GET /(", "shop/r[2]"),
    ] {
        assert_eq!(met(&content, None, request, &[]), expected, "{request}");
    }
    for index in 0..2 {
        assert_eq!(
            *action(&content, "shop/r", index),
            Action::Fail(RuleFailure::Unsupported)
        );
    }
    assert_eq!(sends(action(&content, "shop/r", 2)), ["1×shop/v1:80 1+0"]);
}

#[test]
fn a_route_none_of_whose_rules_can_be_applied_does_not_attach() {
    let mut inputs = three();
    let mut told = rule(&[any()]);
    told.faults.push(fault());
    inputs.http_route("shop/r", route(&[told, rule(&[regex("(")])]));
    let content = build(&inputs);
    assert!(content.routes.is_empty() && content.backends.is_empty());
    inputs.http_route("shop/other", route(&[rule(&[any()])]));
    assert_eq!(
        met(&build(&inputs), None, "GET /", &[]),
        "shop/other[0]",
        "others are not harmed"
    );
}

#[test]
fn edits_are_ready_to_be_made() {
    let mut inputs = three();
    let changes = HeaderChanges {
        set: vec![("x-a".to_owned(), "1".to_owned())],
        add: vec![("x-b".to_owned(), "2 3".to_owned())],
        remove: vec!["x-c".to_owned()],
    };
    let mut one = rule(&[any()]);
    one.filters.request_headers = changes.clone();
    one.backends[0].filters.response_headers = changes;
    inputs.http_route("shop/r", route(&[one]));
    let content = build(&inputs);
    let table = content.route_table(None, WEB.parse().unwrap()).unwrap();
    let rule = &table.rules[0];
    assert_eq!(rule.edits.request.set, [("x-a".parse().unwrap(), "1".parse().unwrap())]);
    assert_eq!(
        rule.edits.request.add,
        [("x-b".parse().unwrap(), "2 3".parse().unwrap())]
    );
    assert_eq!(rule.edits.request.remove, ["x-c"]);
    assert_eq!(rule.edits.response, Default::default());
    let Action::Forward(backends) = &rule.action else {
        panic!()
    };
    assert_eq!(backends.list[0].edits.response, rule.edits.request);
}

#[test]
fn what_http_cannot_carry_is_a_fault_and_is_never_sent() {
    for (name, value) in [("x a", "1"), ("", "1"), ("x", "a\r\nb")] {
        for at_backend in [false, true] {
            let mut one = rule(&[exact("/a")]);
            let filters = if at_backend {
                &mut one.backends[0].filters
            } else {
                &mut one.filters
            };
            filters.request_headers.set.push((name.to_owned(), value.to_owned()));
            let mut inputs = three();
            inputs.http_route("shop/r", route(&[one, rule(&[any()])]));
            let content = build(&inputs);
            assert_eq!(
                *action(&content, "shop/r", 0),
                Action::Fail(RuleFailure::Unsupported),
                "{name:?} {value:?}"
            );
        }
    }
}

#[test]
fn a_rules_settings_are_its_own() {
    let mut inputs = three();
    let mut one = rule(&[any()]);
    one.timeouts = RouteTimeouts {
        request: Some(Duration::from_secs(2)),
        backend_request: Some(Duration::from_secs(1)),
    };
    one.retry = Some(RouteRetry {
        attempts: Some(3),
        ..RouteRetry::default()
    });
    inputs.http_route("shop/r", route(&[one, rule(&[exact("/a")])]));
    let content = build(&inputs);
    let table = content.route_table(None, WEB.parse().unwrap()).unwrap();
    let settings = |index: usize| &table.rules.iter().find(|rule| rule.index == index).unwrap().settings;
    assert_eq!(settings(0).timeout, Some(Duration::from_secs(2)));
    assert_eq!(settings(0).attempt_timeout, Some(Duration::from_secs(1)));
    assert_eq!(settings(0).retry.as_ref().map(|retry| retry.attempts), Some(3));
    assert_eq!(**settings(1), Default::default());
}

#[test]
fn endpoints_of_backends_are_named_by_their_pods() {
    let mut inputs = three();
    inputs.pod("shop/v1-0", super::super::remote(&["10.0.0.2"]));
    inputs.http_route("shop/r", to(&[backend("shop/v1", 80, 1)]));
    let content = build(&inputs);
    let upstream = content.backends.values().next().unwrap();
    let endpoint = &upstream.endpoints[0];
    assert_eq!(endpoint.address.ip(), ip("10.0.0.2"));
    assert_eq!(
        endpoint.workload.as_ref().map(|workload| &workload.pod),
        Some(&object("shop/v1-0"))
    );
}
