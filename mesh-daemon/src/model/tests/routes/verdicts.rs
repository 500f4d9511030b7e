//! What is said of routes: the standard's conditions, with messages that name the field.

use super::{
    super::{
        super::{
            BackendRef, BackendTarget, HttpRoute, Inputs, RouteParent, RouteRule, RuleFault, RuleFaultReason, Service,
            ServiceKind, build,
        },
        object, service, set_aside,
    },
    any, backend, exact, parent, prefix,
    random::fault,
    regex, route, rule, three,
};

/// The conditions of `NAME` at its first parent, as `type=status reason: message`.
fn told(inputs: &Inputs, name: &str) -> Vec<String> {
    let content = build(inputs);
    let verdict = &content.route_verdicts[&object(name)];
    assert_eq!(verdict.generation, inputs.routes[&object(name)].generation);
    let (_, conditions) = &verdict.parents[0];
    conditions
        .iter()
        .map(|condition| {
            let status = if condition.is_true { "True" } else { "False" };
            format!(
                "{}={status} {}: {}",
                condition.kind, condition.reason, condition.message
            )
        })
        .collect()
}

fn of(route: HttpRoute) -> Vec<String> {
    let mut inputs = three();
    inputs.http_route("shop/r", route);
    told(&inputs, "shop/r")
}

const ACCEPTED: &str = "Accepted=True Accepted: Holds for all clients of Service shop/web";
const RESOLVED: &str = "ResolvedRefs=True ResolvedRefs: All backends are known";

#[test]
fn a_good_route() {
    assert_eq!(of(route(&[rule(&[any()])])), [ACCEPTED, RESOLVED]);
    let mut inputs = three();
    inputs.http_route("blog/r", route(&[rule(&[any()])]));
    let accepted = "Accepted=True Accepted: Holds for the clients of namespace blog of Service shop/web";
    assert_eq!(told(&inputs, "blog/r"), [accepted, RESOLVED]);
}

#[test]
fn parents_that_can_be_none() {
    let mut inputs = three();
    for (name, kind) in [
        ("headless", ServiceKind::Headless),
        ("external", ServiceKind::ExternalName),
        ("left", ServiceKind::LeftToKubeProxy),
    ] {
        let service = Service {
            kind,
            ..service(&[], &[("http", 80)])
        };
        inputs.service(&format!("shop/{name}"), service);
    }
    let narrowed = |port, section: Option<&str>| RouteParent {
        port,
        section_name: section.map(str::to_owned),
        ..parent("shop/web")
    };
    for (parent, expected) in [
        (parent("shop/gone"), "name: there is no Service shop/gone"),
        (
            parent("shop/headless"),
            "name: Service shop/headless is headless: its clients ask its pods themselves, and no route is on their way",
        ),
        (
            parent("shop/external"),
            "name: Service shop/external is of type ExternalName, which has no routes",
        ),
        (
            parent("shop/left"),
            "name: Service shop/left is left to kube-proxy, for its `sessionAffinity` or `internalTrafficPolicy`, and is not \
             captured",
        ),
        (
            RouteParent {
                port: Some(80),
                ..parent("shop/gone")
            },
            "name: there is no Service shop/gone",
        ),
        (narrowed(Some(81), None), "port: Service shop/web has no TCP port 81"),
        (
            narrowed(None, Some("x")),
            "sectionName: Service shop/web has no TCP port named `x`",
        ),
        (
            narrowed(Some(81), Some("http")),
            "sectionName: Service shop/web has no TCP port 81 named `http`",
        ),
    ] {
        let mut route = route(&[rule(&[any()])]);
        route.parents = vec![parent];
        inputs.http_route("shop/r", route);
        let accepted = format!("Accepted=False NoMatchingParent: spec.parentRefs[].{expected}");
        assert_eq!(told(&inputs, "shop/r"), [accepted.as_str(), RESOLVED]);
    }
}

#[test]
fn each_parent_has_conditions_of_its_own_in_the_order_of_the_spec() {
    let mut inputs = three();
    let mut route = route(&[rule(&[any()])]);
    route.parents = ["shop/web", "shop/gone", "shop/v1"].map(parent).to_vec();
    inputs.http_route("shop/r", route.clone());
    let content = build(&inputs);
    let verdict = &content.route_verdicts[&object("shop/r")];
    let parents: Vec<_> = verdict.parents.iter().map(|(parent, _)| parent.clone()).collect();
    assert_eq!(parents, route.parents);
    let accepted: Vec<_> = verdict
        .parents
        .iter()
        .map(|(_, conditions)| conditions[0].is_true)
        .collect();
    assert_eq!(accepted, [true, false, true]);
}

#[test]
fn backends_that_are_nobody() {
    let invalid = BackendRef {
        target: BackendTarget::InvalidKind("kind `Secret` is not supported".to_owned()),
        ..backend("shop/v1", 80, 1)
    };
    let field = "spec.rules[0].backendRefs";
    for (backends, expected) in [
        (
            vec![backend("shop/gone", 80, 1)],
            format!("BackendNotFound: {field}[0]: there is no Service shop/gone"),
        ),
        (
            vec![backend("shop/v1", 80, 1), backend("shop/v1", 81, 0)],
            format!("BackendNotFound: {field}[1]: Service shop/v1 has no TCP port 81"),
        ),
        (
            vec![invalid, backend("shop/gone", 80, 1)],
            format!(
                "InvalidKind: {field}[0]: kind `Secret` is not supported; {field}[1]: there is no Service shop/gone"
            ),
        ),
    ] {
        let mut one = rule(&[any()]);
        one.backends = backends;
        assert_eq!(of(route(&[one])), [ACCEPTED, &format!("ResolvedRefs=False {expected}")]);
    }
}

#[test]
fn backends_that_no_route_may_send_to() {
    let mut inputs = three();
    let external = Service {
        kind: ServiceKind::ExternalName,
        ..service(&[], &[("http", 80)])
    };
    let mut opaque = service(&["10.96.0.9"], &[("redis", 80)]);
    opaque.ports[0].app_protocol = super::super::AppProtocol::Opaque;
    inputs.service("shop/external", external).service("shop/opaque", opaque);
    for (name, expected) in [
        (
            "shop/external",
            "InvalidKind: spec.rules[0].backendRefs[0]: Service shop/external is of type ExternalName, which no route sends to",
        ),
        (
            "shop/opaque",
            "UnsupportedProtocol: spec.rules[0].backendRefs[0]: the `appProtocol` of port 80 of Service shop/opaque is not HTTP in plain text",
        ),
    ] {
        let mut one = rule(&[any()]);
        one.backends = vec![backend(name, 80, 1)];
        inputs.http_route("shop/r", route(&[one]));
        assert_eq!(
            told(&inputs, "shop/r"),
            [ACCEPTED, &format!("ResolvedRefs=False {expected}")]
        );
    }
}

#[test]
fn some_rules_cannot_be_applied() {
    let mut named = rule(&[any()]);
    named.name = Some("cors".to_owned());
    named.faults.push(fault());
    let with_regex = rule(&[exact("/a"), prefix("/b").header_regex("x-v", "("), any()]);
    assert_eq!(
        of(route(&[rule(&[any()]), named, with_regex])),
        [
            ACCEPTED,
            RESOLVED,
            "PartiallyInvalid=True UnsupportedValue: Dropped Rule 1 (`cors`); 2, whose requests are answered with 500: \
             spec.rules[0].filters[1].type: `CORS` is not supported; \
             spec.rules[2].matches[1].headers: of `x-v`: `(` is not supported: unclosed group",
        ]
    );
}

#[test]
fn no_rule_can_be_applied() {
    let incompatible = RuleFault {
        reason: RuleFaultReason::IncompatibleFilters,
        field: "spec.rules[0].filters".to_owned(),
        detail: "`RequestRedirect` and `URLRewrite` exclude each other".to_owned(),
    };
    let with = |faults: &[RuleFault]| {
        let mut one = rule(&[any()]);
        one.faults = faults.to_vec();
        one
    };
    let cors = "spec.rules[0].filters[1].type: `CORS` is not supported";
    let filters = "spec.rules[0].filters: `RequestRedirect` and `URLRewrite` exclude each other";
    let path = "spec.rules[0].matches[0].path.value: `(` is not supported: unclosed group";
    let query = "spec.rules[0].matches[0].queryParams: of `q`: `(` is not supported: unclosed group";
    let many = [cors; 4].join("; ");
    for (rules, reason, message) in [
        (vec![with(&[fault()])], "UnsupportedValue", cors.to_owned()),
        (
            vec![with(std::slice::from_ref(&incompatible))],
            "IncompatibleFilters",
            filters.to_owned(),
        ),
        (
            vec![with(std::slice::from_ref(&incompatible)), with(&[fault()])],
            "UnsupportedValue",
            format!("{filters}; {cors}"),
        ),
        (vec![rule(&[regex("(")])], "UnsupportedValue", path.to_owned()),
        (
            vec![rule(&[any().query_regex("q", "(")])],
            "UnsupportedValue",
            query.to_owned(),
        ),
        (
            vec![with(&vec![fault(); 6])],
            "UnsupportedValue",
            format!("{many}; and 2 more"),
        ),
    ] {
        let accepted = format!("Accepted=False {reason}: No rule can be applied: {message}");
        assert_eq!(of(route(&rules)), [accepted.as_str(), RESOLVED]);
    }
}

#[test]
fn what_cannot_be_applied_is_set_aside_and_what_may_mend_itself_is_not() {
    let cors = |good: &[RouteRule]| {
        let mut bad = rule(&[any()]);
        bad.faults.push(fault());
        route(&[&[bad], good].concat())
    };
    let mut orphan = route(&[rule(&[any()])]);
    orphan.parents = vec![parent("shop/gone")];
    for (route, expected) in [
        (cors(&[]), &["HTTPRoute shop/r unsupported_rule"][..]),
        (cors(&[rule(&[exact("/a")])]), &["HTTPRoute shop/r unsupported_rule"]),
        (orphan, &[]),
        (route(&[rule(&[any()])]), &[]),
    ] {
        let mut inputs = three();
        inputs.http_route("shop/r", route);
        let content = build(&inputs);
        assert_eq!(set_aside(&content), expected);
        for aside in &content.set_aside {
            assert!(aside.detail.contains("`CORS` is not supported"), "{aside:?}");
        }
    }
}

#[test]
fn places_of_matches_are_told_only_where_they_are_known() {
    let mut one = rule(&[regex("(")]);
    one.faults.push(fault());
    let told = of(route(&[rule(&[any()]), one]));
    assert!(
        told[2].contains("spec.rules[1].matches[].path.value: `(`"),
        "{}",
        told[2]
    );
}
