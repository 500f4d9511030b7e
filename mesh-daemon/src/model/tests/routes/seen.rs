//! Routes and policies as the admin socket shows them.

use core::time::Duration;

use serde_json::json;

use super::{
    super::{
        super::{
            ActionView, BackendView, CircuitBreaker, HashKey, HeaderChanges, Limits, LoadBalancer, PathChange,
            PolicySpec, Redirect, RetryBudget, RetryPolicy, Rewrite, RouteRetry, RouteTimeouts, SettingView, Snapshot,
            TimeoutPolicy, TrafficPolicy, ValidPolicy, WhenAllOpen, build, policies_view, policy_view, routes_view,
        },
        object, service,
    },
    any, backend, exact, prefix,
    random::fault,
    route, rule, three,
};
use crate::ids::Generation;
use crate::model::Inputs;

fn snapshot(inputs: &Inputs) -> Snapshot {
    Snapshot {
        generation: Generation(7),
        content: build(inputs),
    }
}

fn policy(generation: i64, target: &str, spec: PolicySpec) -> TrafficPolicy {
    let targets = vec![target.to_owned()];
    TrafficPolicy {
        generation,
        created: None,
        targets: targets.clone(),
        invalid: None,
        valid: Some(ValidPolicy {
            generation,
            targets,
            spec,
        }),
    }
}

#[test]
fn rules_are_told_in_the_order_of_precedence_once_for_all_addresses() {
    let mut inputs = three();
    inputs.service("shop/web", service(&["10.96.0.1", "fd00:96::1"], &[("http", 80)]));
    let mut split = rule(&[prefix("/cart").method("GET").header("x-user", "premium")]);
    split.name = Some("cart".to_owned());
    split.backends = vec![backend("shop/v1", 80, 9), backend("shop/gone", 80, 1)];
    let mut moved = rule(&[exact("/old")]);
    moved.filters.redirect = Some(Redirect {
        scheme: Some("https".to_owned()),
        hostname: None,
        path: None,
        port: None,
        status: 301,
    });
    let mut faulty = rule(&[any()]);
    faulty.faults.push(fault());
    inputs
        .http_route("shop/r", route(&[split, moved, faulty]))
        .http_route("blog/r", route(&[rule(&[any()])]));
    let snapshot = snapshot(&inputs);
    let view = routes_view(&snapshot, Some(&object("shop/web"))).unwrap();
    let told: Vec<_> = view
        .rules
        .iter()
        .map(|rule| {
            (
                rule.clients.as_deref(),
                rule.matches.as_str(),
                rule.rule,
                rule.addresses.len(),
            )
        })
        .collect();
    assert_eq!(
        told,
        [
            (None, "exact /old", 1, 2),
            (None, "prefix /cart method=GET header x-user=premium", 0, 2),
            (None, "prefix /", 2, 2),
            (Some("blog"), "prefix /", 0, 2),
        ]
    );
    let backend = |name: &str, weight, is_resolved| BackendView {
        name: name.to_owned(),
        weight,
        is_resolved,
        filters: Vec::new(),
    };
    assert_eq!(
        view.rules[1].action,
        ActionView::Forward {
            backends: vec![backend("shop/v1:80", 9, true), backend("shop/gone:80", 1, false)],
        }
    );
    assert!(matches!(view.rules[0].action, ActionView::Redirect { status: 301, .. }));
    assert!(matches!(view.rules[2].action, ActionView::Fail { .. }));
    assert_eq!(view.rules[1].rule_name.as_deref(), Some("cart"));
    let statuses: Vec<_> = view
        .routes
        .iter()
        .flat_map(|route| &route.parents)
        .flat_map(|parent| &parent.conditions)
        .map(|condition| (condition.kind.as_str(), condition.status.as_str()))
        .collect();
    assert!(statuses.contains(&("ResolvedRefs", "False")), "{statuses:?}");
    assert!(statuses.contains(&("PartiallyInvalid", "True")), "{statuses:?}");
}

#[test]
fn what_rules_and_backends_change_is_told_in_the_words_of_an_http_route() {
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let mut changing = rule(&[prefix("/cart")]);
    changing.filters.request_headers = HeaderChanges {
        set: vec![pair("x-a", "1")],
        add: vec![pair("x-b", "2")],
        remove: vec!["x-c".to_owned()],
    };
    changing.filters.rewrite = Some(Rewrite {
        hostname: Some("new.example".to_owned()),
        path: Some(PathChange::Prefix("/basket".to_owned())),
    });
    let mut own = backend("shop/v1", 80, 1);
    own.filters.response_headers.add = vec![pair("x-v", "1")];
    changing.backends = vec![own];
    let mut moved = rule(&[exact("/old")]);
    moved.filters.redirect = Some(Redirect {
        scheme: None,
        hostname: None,
        path: Some(PathChange::Full("/new".to_owned())),
        port: None,
        status: 302,
    });
    let mut inputs = three();
    inputs.http_route("shop/r", route(&[changing, moved]));
    let view = routes_view(&snapshot(&inputs), None).unwrap();
    let [moved, changing] = view.rules.as_slice() else {
        panic!("{view:?}");
    };
    let moved = serde_json::to_value(moved).unwrap();
    assert_eq!(moved["filters"], json!([]));
    assert_eq!(
        moved["action"]["path"],
        json!({"type": "ReplaceFullPath", "value": "/new"})
    );
    let changing = serde_json::to_value(changing).unwrap();
    assert_eq!(
        changing["filters"],
        json!([
            {"type": "RequestHeaderModifier", "set": [{"name": "x-a", "value": "1"}], "add": [{"name": "x-b", "value": "2"}], "remove": ["x-c"]},
            {"type": "URLRewrite", "hostname": "new.example", "path": {"type": "ReplacePrefixMatch", "value": "/basket"}}
        ])
    );
    assert_eq!(
        changing["action"]["backends"][0]["filters"],
        json!([{"type": "ResponseHeaderModifier", "set": [], "add": [{"name": "x-v", "value": "1"}], "remove": []}])
    );
}

#[test]
fn a_service_without_routes_has_none_and_one_that_is_not_there_is_an_error() {
    let mut inputs = three();
    inputs.http_route("shop/r", route(&[rule(&[any()])]));
    let snapshot = snapshot(&inputs);
    let of_v1 = routes_view(&snapshot, Some(&object("shop/v1"))).unwrap();
    assert!(of_v1.rules.is_empty() && of_v1.routes.is_empty());
    assert_eq!(routes_view(&snapshot, None).unwrap().rules.len(), 1);
    for error in [
        routes_view(&snapshot, Some(&object("shop/wbe"))).unwrap_err(),
        policy_view(&snapshot, &object("shop/wbe")).unwrap_err(),
    ] {
        assert_eq!(
            error.to_string(),
            "there is no Service shop/wbe that this node knows; it knows shop/v1, shop/v2, shop/web"
        );
    }
}

/// As `value from`, of one field; `-` if it is not told.
fn told(settings: &[SettingView], field: &str) -> String {
    let mut found = settings.iter().filter(|setting| setting.field == field);
    let setting = found.next();
    assert!(found.next().is_none(), "{field} is told once");
    setting.map_or_else(
        || "-".to_owned(),
        |setting| {
            let name = setting.from.name.as_ref().map(|name| format!(" {name}"));
            let generation = setting.from.generation.map(|generation| format!("@{generation}"));
            let from = [name, generation].into_iter().flatten().collect::<String>();
            format!("{} {}{from}", setting.value, setting.from.kind)
        },
    )
}

fn full() -> PolicySpec {
    PolicySpec {
        load_balancer: Some(LoadBalancer::Maglev(HashKey::Header("x-user".to_owned()))),
        circuit_breaker: Some(CircuitBreaker {
            failure_threshold: 5,
            success_threshold: 3,
            timeout: Duration::from_secs(30),
            half_open_requests: 1,
            failure_on: [
                crate::model::FailureClass::Http5xx,
                crate::model::FailureClass::Grpc(14),
            ]
            .into(),
            max_ejection_percent: 50,
            when_all_open: WhenAllOpen::Panic,
        }),
        limits: Some(Limits {
            max_requests: Some(9),
            ..Limits::default()
        }),
        retry: Some(RetryPolicy {
            attempts: Some(2),
            budget: Some(RetryBudget {
                percent: 30,
                ..crate::model::BUDGET_DEFAULT
            }),
            ..RetryPolicy::default()
        }),
        timeout: Some(TimeoutPolicy {
            request: Some(Duration::from_secs(1)),
            backend_request: Some(Duration::ZERO),
        }),
    }
}

#[test]
fn each_setting_names_who_says_it() {
    let mut own = rule(&[any()]);
    own.timeouts = RouteTimeouts {
        request: None,
        backend_request: Some(Duration::from_millis(250)),
    };
    own.retry = Some(RouteRetry {
        codes: Some(vec![503]),
        attempts: None,
        backoff: None,
    });
    let mut inputs = three();
    inputs.http_route("shop/r", route(&[own]));
    inputs.policies.insert(object("shop/p"), policy(4, "web", full()));
    let view = policy_view(&snapshot(&inputs), &object("shop/web")).unwrap();
    let by_policy = |value: &str| format!("{value} TrafficPolicy shop/p@4");
    for (field, expected) in [
        ("loadBalancer.type", by_policy("Maglev")),
        ("loadBalancer.hashKey", by_policy("Header x-user")),
        ("circuitBreaker.failureThreshold", by_policy("5")),
        ("circuitBreaker.timeout", by_policy("30s")),
        ("circuitBreaker.failureOn", by_policy("5xx,unavailable")),
        ("circuitBreaker.whenAllOpen", by_policy("Panic")),
        ("limits.maxRequests", by_policy("9")),
        ("limits.maxConnections", "none default".to_owned()),
        ("timeout.request", by_policy("1s")),
        ("timeout.backendRequest", by_policy("none")),
        ("retry.attempts", by_policy("2")),
        ("retry.codes", "none default".to_owned()),
        ("retry.retryOn", "connect-failure,reset,timeout default".to_owned()),
        ("retry.backoff", "25ms default".to_owned()),
        ("retry.budget.percent", by_policy("30")),
        ("retry.budget.minRetryRate", by_policy("10/1s")),
    ] {
        assert_eq!(told(&view.settings, field), expected, "{field}");
    }
    let rule = &view.rules[0].settings;
    for (field, expected) in [
        ("timeout.request", by_policy("1s")),
        ("timeout.backendRequest", "250ms HTTPRoute shop/r@1".to_owned()),
        ("retry.codes", "503 HTTPRoute shop/r@1".to_owned()),
        ("retry.attempts", by_policy("2")),
        ("loadBalancer.type", "-".to_owned()),
    ] {
        assert_eq!(told(rule, field), expected, "{field}");
    }
    let accepted = &view.policies[0].conditions[0];
    assert_eq!((accepted.kind.as_str(), accepted.status.as_str()), ("Accepted", "True"));
}

#[test]
fn without_a_policy_all_is_default_and_of_two_the_other_is_conflicted() {
    let mut inputs = three();
    let view = policy_view(&snapshot(&inputs), &object("shop/web")).unwrap();
    assert_eq!(view.policy, None);
    assert!(view.settings.iter().all(|setting| setting.from.kind == "default"));
    assert_eq!(told(&view.settings, "loadBalancer.type"), "RoundRobin default");
    assert_eq!(told(&view.settings, "circuitBreaker"), "none default");
    assert_eq!(told(&view.settings, "retry"), "none default");
    for name in ["shop/a", "shop/b"] {
        inputs.policies.insert(object(name), policy(1, "web", full()));
    }
    let view = policy_view(&snapshot(&inputs), &object("shop/web")).unwrap();
    let reasons: Vec<_> = view
        .policies
        .iter()
        .map(|policy| (policy.policy.name.as_str(), policy.conditions[0].reason.as_str()))
        .collect();
    assert_eq!(reasons, [("a", "Accepted"), ("b", "Conflicted")]);
}

#[test]
fn a_policy_for_a_service_that_is_not_there_is_found_and_says_so() {
    let mut inputs = three();
    inputs.policies.insert(object("shop/p"), policy(4, "wbe", full()));
    inputs.policies.insert(object("blog/p"), policy(1, "gone", full()));
    let snapshot = snapshot(&inputs);
    let view = policy_view(&snapshot, &object("shop/wbe")).unwrap();
    assert!(
        !view.is_known && view.policy.is_none() && view.settings.is_empty(),
        "{view:?}"
    );
    assert_eq!(view.policies[0].conditions[0].reason, "TargetNotFound");
    assert!(policy_view(&snapshot, &object("shop/web")).unwrap().is_known);
    let found = |namespace| {
        let view = policies_view(&snapshot, namespace);
        let targets = view.policies.into_iter().flat_map(|policy| policy.targets);
        let told = targets.map(|target| (target.service.to_string(), target.conditions[0].reason.clone()));
        told.collect::<Vec<_>>()
    };
    let not_found = |service: &str| (service.to_owned(), "TargetNotFound".to_owned());
    assert_eq!(found(None), [not_found("blog/gone"), not_found("shop/wbe")]);
    assert_eq!(found(Some("shop")), [not_found("shop/wbe")]);
}
