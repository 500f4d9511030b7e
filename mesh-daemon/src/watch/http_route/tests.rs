//! Routes as the API server and manifests write them → trimmed routes, and every fault of a rule with its field.

mod faults;

use std::time::Duration;

use serde_json::{Value, json};

use crate::{
    ids::ObjectRef,
    model::{
        BackendRef, BackendTarget, Filters, HeaderChanges, HttpRoute, PathChange, PathMatch, Redirect, Rewrite,
        RouteMatch, RouteParent, RouteRetry, RouteRule, RouteTimeouts, ValueMatch, ValuePattern,
    },
    watch::{
        convert::{Refused, duration},
        objects::Object,
    },
};

fn convert(value: Value) -> (Option<HttpRoute>, Vec<Refused>) {
    let mut parts = Vec::new();
    let route = super::convert(value, &mut parts).unwrap().map(|object| match object {
        Object::HttpRoute(name, route) => {
            assert_eq!(name, ObjectRef::new("shop", "r"));
            route
        }
        other => panic!("{other:?}"),
    });
    (route, parts)
}

/// A route of the Service `web` with these rules.
fn route(rules: &Value) -> HttpRoute {
    let (route, parts) = convert(json!({
        "metadata": {"namespace": "shop", "name": "r"},
        "spec": {"parentRefs": [{"group": "", "kind": "Service", "name": "web"}], "rules": rules},
    }));
    assert_eq!(parts, []);
    route.unwrap()
}

fn rule(yaml: &str) -> RouteRule {
    let rule: Value = serde_yaml_ng::from_str(yaml).unwrap();
    let route = route(&json!([rule]));
    route.rules.into_iter().next().unwrap()
}

fn prefix(path: &str) -> RouteMatch {
    RouteMatch {
        path: PathMatch::Prefix(path.to_owned()),
        method: None,
        headers: Vec::new(),
        query: Vec::new(),
    }
}

#[test]
fn only_parents_that_are_services_are_kept() {
    let of = |parents: Value| {
        convert(json!({
            "metadata": {"namespace": "shop", "name": "r", "generation": 4, "creationTimestamp": "1970-01-01T00:01:40Z"},
            "spec": {"parentRefs": parents},
        }))
    };
    let (route, parts) = of(json!([
        {"name": "gateway"},
        {"group": "example.net", "kind": "Service", "name": "foreign"},
        {"group": "", "kind": "Service", "name": "web", "namespace": "other", "sectionName": "http", "port": 80},
        {"group": "", "kind": "Service", "name": "bare"},
        {"kind": "Service", "name": "no-group"},
        {"group": "gateway.networking.k8s.io", "kind": "Service", "name": "default-group"},
        {"group": "", "kind": "Service", "name": "web", "port": 0},
        {"group": "", "kind": "Service"},
    ]));
    let route = route.unwrap();
    let web = RouteParent {
        group: Some(String::new()),
        kind: Some("Service".into()),
        namespace: Some("other".into()),
        name: "web".into(),
        section_name: Some("http".into()),
        port: Some(80),
    };
    assert_eq!(route.parents[0], web);
    assert_eq!(route.parents[1].name, "bare");
    assert_eq!(
        (route.parents.len(), route.generation, route.created),
        (2, 4, Some(100))
    );
    let details: Vec<_> = parts.iter().map(|part| part.detail.as_str()).collect();
    for (detail, part) in details.iter().zip([
        "write `group: \"\"` for Service no-group",
        "write `group: \"\"` for Service default-group",
        "spec.parentRefs.port",
        "missing field `name`",
    ]) {
        assert!(detail.contains(part), "{details:?}");
    }
    assert_eq!(details.len(), 4, "{details:?}");
    // no rules are one that matches everything and goes nowhere
    let everything = RouteRule {
        matches: vec![prefix("")],
        ..RouteRule::default()
    };
    assert_eq!(route.rules, [everything]);
    for parents in [json!(null), json!([]), json!([{"name": "gateway"}])] {
        assert_eq!(of(parents), (None, Vec::new()));
    }
    let (none, parts) = of(json!("text"));
    assert!(none.is_none() && parts.len() == 1);
}

/// A rule with something of everything.
const WHOLE: &str = "
        name: first
        matches:
        - path: {type: Exact, value: /a}
          method: GET
          headers: [{name: X-Env, value: one}, {name: x-env, value: two}, {type: RegularExpression, name: other, value: 'a+'}]
          queryParams: [{name: Q, value: '1'}, {name: Q, value: '2'}, {name: q, value: '', type: RegularExpression}]
        - path: {type: RegularExpression, value: '/b.*'}
        - path: {value: /c/d/}
        - {}
        - path: {}
        - headers: []
          future: {field: 1}
        filters:
        - type: RequestHeaderModifier
          requestHeaderModifier: {set: [{name: X-A, value: b c}], add: [{name: X-B, value: d}], remove: [X-C]}
        - {type: ResponseHeaderModifier, responseHeaderModifier: {}}
        - {type: URLRewrite, urlRewrite: {hostname: example.net, path: {type: ReplaceFullPath, replaceFullPath: /x}}}
        backendRefs:
        - {name: web, port: 80}
        - name: v2
          namespace: other
          group: ''
          kind: Service
          port: 8080
          weight: 0
          filters: [{type: ResponseHeaderModifier, responseHeaderModifier: {remove: [Server]}}]
        - {group: example.net, kind: Bucket, name: b}
        - {name: web}
        - {name: web, port: 65536}
        timeouts: {request: 1m30s, backendRequest: 250ms}
        retry: {codes: [500, 503], attempts: 2, backoff: 0s}";

#[test]
fn a_rule_is_read_whole() {
    let read = rule(WHOLE);
    assert_eq!(read.faults, []);
    assert_eq!(read.name.as_deref(), Some("first"));
    let exact = |name: &str, value: &str| ValueMatch {
        name: name.into(),
        value: ValuePattern::Exact(value.into()),
    };
    let regex = |name: &str, value: &str| ValueMatch {
        name: name.into(),
        value: ValuePattern::Regex(value.into()),
    };
    let first = RouteMatch {
        path: PathMatch::Exact("/a".into()),
        method: Some("GET".into()),
        headers: vec![exact("x-env", "one"), regex("other", "a+")],
        query: vec![exact("Q", "1"), regex("q", "")],
    };
    let second = RouteMatch {
        path: PathMatch::Regex("/b.*".into()),
        ..prefix("")
    };
    let matches = [first, second, prefix("/c/d"), prefix(""), prefix(""), prefix("")];
    assert_eq!(read.matches, matches);
    let timeouts = RouteTimeouts {
        request: Some(Duration::from_secs(90)),
        backend_request: Some(Duration::from_millis(250)),
    };
    let retry = RouteRetry {
        codes: Some(vec![500, 503]),
        attempts: Some(2),
        backoff: Some(Duration::ZERO),
    };
    assert_eq!((read.timeouts, read.retry), (timeouts, Some(retry)));
}

#[test]
fn filters_are_read_whole() {
    let read = rule(WHOLE);
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let filters = Filters {
        request_headers: HeaderChanges {
            set: vec![pair("x-a", "b c")],
            add: vec![pair("x-b", "d")],
            remove: vec!["x-c".into()],
        },
        rewrite: Some(Rewrite {
            hostname: Some("example.net".into()),
            path: Some(PathChange::Full("/x".into())),
        }),
        ..Filters::default()
    };
    assert_eq!(read.filters, filters);
}

#[test]
fn backends_are_read_whole() {
    let read = rule(WHOLE);
    let service = |namespace: &str, name: &str, port| BackendTarget::Service {
        service: ObjectRef::new(namespace, name),
        port,
    };
    let plain = |target, weight| BackendRef {
        target,
        weight,
        filters: Filters::default(),
    };
    assert_eq!(read.backends[0], plain(service("shop", "web", 80), 1));
    let with_filter = BackendRef {
        filters: Filters {
            response_headers: HeaderChanges {
                remove: vec!["server".into()],
                ..HeaderChanges::default()
            },
            ..Filters::default()
        },
        ..plain(service("other", "v2", 8080), 0)
    };
    assert_eq!(read.backends[1], with_filter);
    for (backend, words) in read.backends[2..].iter().zip(["Bucket", "`port` is missing", "65536"]) {
        let BackendTarget::InvalidKind(sentence) = &backend.target else {
            panic!("{backend:?}");
        };
        assert!(sentence.contains(words), "{sentence}");
    }
}

#[test]
fn redirects_are_read_with_their_default() {
    let read = rule("filters: [{type: RequestRedirect, requestRedirect: {}}]");
    let redirect = Redirect {
        scheme: None,
        hostname: None,
        path: None,
        port: None,
        status: 302,
    };
    assert_eq!((read.faults, read.filters.redirect), (vec![], Some(redirect)));
    let read = rule(
        "{matches: [{path: {value: /a}}], filters: [{type: RequestRedirect, requestRedirect: {scheme: https, hostname: a.b,
         port: 8443, statusCode: 308, path: {type: ReplacePrefixMatch, replacePrefixMatch: ''}}}]}",
    );
    let redirect = Redirect {
        scheme: Some("https".into()),
        hostname: Some("a.b".into()),
        path: Some(PathChange::Prefix(String::new())),
        port: Some(8443),
        status: 308,
    };
    assert_eq!((read.faults, read.filters.redirect), (vec![], Some(redirect)));
}

#[test]
fn zero_timeouts_are_not_absent_ones() {
    let read = rule("timeouts: {request: 0s, backendRequest: 5s}");
    let timeouts = RouteTimeouts {
        request: Some(Duration::ZERO),
        backend_request: Some(Duration::from_secs(5)),
    };
    assert_eq!((read.faults, read.timeouts), (vec![], timeouts));
    assert_eq!(rule("timeouts: {}").timeouts, RouteTimeouts::default());
}

#[test]
fn a_bad_piece_loses_nothing_else() {
    let read = rule(
        "{matches: [{path: {value: /a}}, {path: {value: b}, method: get}], backendRefs: [{name: a, port: 1}, 7],
          filters: [{type: CORS}, {type: RequestHeaderModifier, requestHeaderModifier: {remove: [x]}}], timeouts: {request: 1s, backendRequest: x}}",
    );
    assert_eq!(
        read.matches,
        [prefix("/a")],
        "a match that cannot be applied is left out"
    );
    assert_eq!((read.backends.len(), read.filters.request_headers.remove.len()), (1, 1));
    assert_eq!(read.timeouts.request, Some(Duration::from_secs(1)));
    let fields: Vec<_> = read
        .faults
        .iter()
        .map(|fault| fault.field.trim_start_matches("spec.rules[0]"))
        .collect();
    let expected = [
        ".matches[1].path.value",
        ".matches[1].method",
        ".filters[0].type",
        ".backendRefs[1]",
        ".timeouts.backendRequest",
    ];
    assert_eq!(fields, expected);
    // nor does a bad rule lose the others
    let route = route(&json!([{"matches": [{"path": {"value": "/a"}}]}, 7, {"filters": [{"type": "CORS"}]}]));
    let faults: Vec<_> = route
        .rules
        .iter()
        .flat_map(|rule| &rule.faults)
        .map(|fault| fault.field.as_str())
        .collect();
    assert_eq!(
        (route.rules.len(), faults),
        (3, vec!["spec.rules[1]", "spec.rules[2].filters[0].type"])
    );
}

#[test]
fn rules_that_are_no_list_answer_for_everything() {
    let (route, parts) = convert(json!({
        "metadata": {"namespace": "shop", "name": "r"},
        "spec": {"parentRefs": [{"group": "", "kind": "Service", "name": "web"}], "rules": {"a": 1}},
    }));
    let [rule] = <[RouteRule; 1]>::try_from(route.unwrap().rules).unwrap();
    assert_eq!((parts.len(), rule.matches), (0, vec![prefix("")]));
    assert_eq!(rule.faults[0].field, "spec.rules");
}

#[test]
fn durations_are_those_of_the_gateway_api() {
    for (text, millis) in [
        ("0s", 0),
        ("1ms", 1),
        ("250ms", 250),
        ("10s", 10_000),
        ("1h30m", 5_400_000),
        ("1m1m", 120_000),
        ("1h1m1s1ms", 3_661_001),
        ("99999h", 359_996_400_000),
    ] {
        assert_eq!(duration(text), Ok(Duration::from_millis(millis)), "{text}");
    }
    for text in [
        "",
        "1",
        "s",
        "-1s",
        "1.5s",
        "1d",
        "1 s",
        "100000s",
        "1s1s1s1s1s",
        "1S",
        "1us",
        "١s",
    ] {
        assert!(duration(text).unwrap_err().contains("no duration"), "{text}");
    }
}
