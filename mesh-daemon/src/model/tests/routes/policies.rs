//! Whose policy holds on a route: of timeouts and retries that of the Service that the client addressed, of the rest that of the backend's.

use core::time::Duration;

use super::{
    super::{
        super::{
            Family, Limits, PolicySpec, RouteTimeouts, Service, ServiceKind, TimeoutPolicy, TrafficPolicy, ValidPolicy,
            build,
        },
        object, service,
    },
    WEB, any, backend, prefix, route, rule, three,
};

fn policy(target: &str, seconds: u64) -> TrafficPolicy {
    let targets = vec![target.to_owned()];
    TrafficPolicy {
        generation: 1,
        created: None,
        targets: targets.clone(),
        invalid: None,
        valid: Some(ValidPolicy {
            generation: 1,
            targets,
            spec: PolicySpec {
                limits: Some(Limits::default()),
                timeout: Some(TimeoutPolicy {
                    request: Some(Duration::from_secs(seconds)),
                    backend_request: Some(Duration::from_secs(1)),
                }),
                ..PolicySpec::default()
            },
        }),
    }
}

#[test]
fn settings_are_the_addressed_services_and_policies_the_backends() {
    let mut own = rule(&[prefix("/own")]);
    own.timeouts = RouteTimeouts {
        request: Some(Duration::from_secs(2)),
        backend_request: None,
    };
    let mut to_pods = rule(&[any()]);
    to_pods.backends = vec![backend("shop/pods", 80, 1)];
    let headless = Service {
        kind: ServiceKind::Headless,
        ..service(&[], &[("http", 80)])
    };
    let mut inputs = three();
    inputs
        .service("shop/pods", headless)
        .http_route("shop/r", route(&[own, to_pods]));
    inputs.policies.insert(object("shop/for-web"), policy("web", 5));
    inputs.policies.insert(object("shop/for-pods"), policy("pods", 9));
    let content = build(&inputs);

    let table = content.route_table(None, WEB.parse().unwrap()).unwrap();
    let timeouts: Vec<_> = table
        .rules
        .iter()
        .map(|rule| (rule.index, rule.settings.timeout, rule.settings.attempt_timeout))
        .collect();
    let seconds = |number| Some(Duration::from_secs(number));
    assert_eq!(timeouts, [(0, seconds(2), seconds(1)), (1, seconds(5), seconds(1))]);

    let held = content.backends.values().map(|upstream| {
        let policy = upstream.policy.as_ref();
        (
            upstream.service.name.as_str(),
            upstream.family,
            policy.map(|policy| policy.name.name.as_str()),
        )
    });
    let expected = [
        ("pods", Family::V4, Some("for-pods")),
        ("pods", Family::V6, Some("for-pods")),
        ("v1", Family::V4, None),
        ("v1", Family::V6, None),
    ];
    assert!(held.eq(expected));
}
