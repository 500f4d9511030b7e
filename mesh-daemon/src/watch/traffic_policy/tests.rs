//! Policies that hold and policies that do not, from the tables that the API server is asked as well; and the CustomResourceDefinition's file.

mod definition;

use std::{collections::BTreeSet, fs, path::Path, time::Duration};

use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};

use super::convert;
use crate::{
    ids::ObjectRef,
    model::{
        CircuitBreaker, FailureClass, HashKey, Limits, LoadBalancer, PolicySpec, RetryBudget, RetryPolicy,
        TimeoutPolicy, TrafficPolicy, ValidPolicy, WhenAllOpen,
    },
    watch::objects::Object,
};

/// A row of `invalid.yaml`.
#[derive(Deserialize)]
struct Wrong {
    spec: Value,
    field: String,
    api: String,
    daemon: Option<String>,
}

fn table<T: DeserializeOwned>(file: &str) -> Vec<T> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../tests/policies")
        .join(file);
    serde_yaml_ng::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

fn policy(spec: &Value) -> TrafficPolicy {
    let metadata =
        json!({"namespace": "shop", "name": "p", "generation": 3, "creationTimestamp": "1970-01-01T00:01:40Z"});
    let mut parts = Vec::new();
    let object = convert(json!({"metadata": metadata, "spec": spec}), &mut parts).unwrap();
    let Object::TrafficPolicy(name, policy) = object else {
        panic!("{object:?}");
    };
    assert_eq!(
        (name, policy.generation, policy.created),
        (ObjectRef::new("shop", "p"), 3, Some(100))
    );
    let told: Vec<_> = parts.into_iter().map(|part| part.detail).collect();
    assert_eq!(
        told,
        policy.invalid.iter().cloned().collect::<Vec<_>>(),
        "what is wrong is counted"
    );
    *policy
}

fn read(yaml: &str) -> PolicySpec {
    let policy = policy(&serde_yaml_ng::from_str(yaml).unwrap());
    assert_eq!(policy.invalid, None, "{yaml}");
    policy.valid.unwrap().spec
}

#[test]
fn what_holds_holds() {
    for spec in table::<Value>("valid.yaml") {
        let policy = policy(&spec);
        assert_eq!(policy.invalid, None, "{spec}");
        assert_eq!(policy.valid.map(|valid| valid.targets), Some(policy.targets), "{spec}");
    }
}

#[test]
fn what_does_not_hold_names_its_field() {
    for Wrong {
        spec,
        field,
        api,
        daemon,
    } in table("invalid.yaml")
    {
        let policy = policy(&spec);
        let told = policy.invalid.unwrap_or_default();
        assert_eq!(told.split(": ").next(), Some(field.as_str()), "{spec}: {told}");
        assert!(told.contains(&daemon.unwrap_or(api)), "{spec}: {told}");
        assert_eq!(policy.valid, None);
    }
}

#[test]
fn specs_of_another_shape_say_where() {
    let targets = json!([{"name": "web"}]);
    for (spec, words) in [
        (json!(null), "spec.targetRefs: is missing"),
        (json!(7), "spec: cannot be read"),
        (json!({"targetRefs": 7}), "spec.targetRefs: cannot be read"),
        (
            json!({"targetRefs": [{}]}),
            "spec.targetRefs: cannot be read: missing field `name`",
        ),
        (
            json!({"targetRefs": targets, "retry": {"attempts": "2"}}),
            "spec.retry: cannot be read: invalid type: string",
        ),
        (
            json!({"targetRefs": targets, "circuitBreaker": 7}),
            "spec.circuitBreaker: cannot be read",
        ),
    ] {
        let told = policy(&spec).invalid.unwrap_or_default();
        assert!(told.starts_with(words), "{spec}: {told}");
    }
    // fields that nobody knows are passed over
    read("{targetRefs: [{name: web, future: 1}], retry: {future: 1}, future: {field: 1}}");
}

#[test]
fn targets_are_told_as_far_as_they_can_be_read() {
    let policy =
        policy(&json!({"targetRefs": [{"name": "web"}, 7, {"kind": "Gateway", "name": "b"}, {}], "retry": {}}));
    assert_eq!(policy.targets, ["web", "b"]);
    assert!(policy.invalid.is_some());
}

#[test]
fn a_policy_is_read_whole() {
    let read = policy(
        &serde_yaml_ng::from_str(
            "
        targetRefs: [{name: web}, {group: '', kind: Service, name: api}]
        loadBalancer: {type: RingHash, hashKey: {type: Header, name: X-User}}
        circuitBreaker: {failureThreshold: 2, successThreshold: 4, timeout: 5s, halfOpenRequests: 6, failureOn: [5xx, gateway-error,
          cancelled, deadline-exceeded, resource-exhausted, internal, unavailable], maxEjectionPercent: 50, whenAllOpen: Panic}
        limits: {maxConnections: 1, maxRequests: 2, maxConnectionsPerEndpoint: 3, maxRequestsPerEndpoint: 4}
        retry: {attempts: 3, codes: [503, 429], retryOn: [reset, timeout, connect-failure], backoff: 10ms,
          budget: {percent: 30, interval: 20s, minRetryRate: {count: 4, interval: 2s}}}
        timeout: {request: 0s, backendRequest: 1m}",
        )
        .unwrap(),
    );
    let grpc = [1, 4, 8, 13, 14].map(FailureClass::Grpc);
    let spec = PolicySpec {
        load_balancer: Some(LoadBalancer::RingHash(HashKey::Header("x-user".into()))),
        circuit_breaker: Some(CircuitBreaker {
            failure_threshold: 2,
            success_threshold: 4,
            timeout: Duration::from_secs(5),
            half_open_requests: 6,
            failure_on: [FailureClass::Http5xx, FailureClass::GatewayError]
                .into_iter()
                .chain(grpc)
                .collect(),
            max_ejection_percent: 50,
            when_all_open: WhenAllOpen::Panic,
        }),
        limits: Some(Limits {
            max_connections: Some(1),
            max_requests: Some(2),
            max_connections_per_endpoint: Some(3),
            max_requests_per_endpoint: Some(4),
        }),
        retry: Some(RetryPolicy {
            attempts: Some(3),
            codes: Some(vec![503, 429]),
            retry_on: Some([FailureClass::Reset, FailureClass::Timeout, FailureClass::ConnectFailure].into()),
            backoff: Some(Duration::from_millis(10)),
            budget: Some(RetryBudget {
                percent: 30,
                interval: Duration::from_secs(20),
                min_retry_count: 4,
                min_retry_interval: Duration::from_secs(2),
            }),
        }),
        timeout: Some(TimeoutPolicy {
            request: Some(Duration::ZERO),
            backend_request: Some(Duration::from_secs(60)),
        }),
    };
    let targets = vec!["web".to_owned(), "api".to_owned()];
    let valid = ValidPolicy {
        generation: 3,
        targets: targets.clone(),
        spec,
    };
    assert_eq!((read.invalid, read.targets, read.valid), (None, targets, Some(valid)));
}

#[test]
fn what_is_absent_has_its_default() {
    let breaker = CircuitBreaker {
        failure_threshold: 5,
        success_threshold: 3,
        timeout: Duration::from_secs(30),
        half_open_requests: 1,
        failure_on: BTreeSet::from([
            FailureClass::ConnectFailure,
            FailureClass::Reset,
            FailureClass::Timeout,
            FailureClass::Http5xx,
        ]),
        max_ejection_percent: 100,
        when_all_open: WhenAllOpen::FailFast,
    };
    let budget = RetryBudget {
        percent: 20,
        interval: Duration::from_secs(10),
        min_retry_count: 10,
        min_retry_interval: Duration::from_secs(1),
    };
    let with_budget = RetryPolicy {
        budget: Some(budget),
        ..RetryPolicy::default()
    };
    assert_eq!(
        read("{targetRefs: [{name: a}], circuitBreaker: {}}").circuit_breaker,
        Some(breaker)
    );
    assert_eq!(
        read("{targetRefs: [{name: a}], retry: {}}").retry,
        Some(RetryPolicy::default())
    );
    assert_eq!(
        read("{targetRefs: [{name: a}], retry: {budget: {minRetryRate: {}}}}").retry,
        Some(with_budget)
    );
}

#[test]
fn each_balancer_is_its_own() {
    let address = || HashKey::SourceAddress;
    for (yaml, expected) in [
        ("type: RoundRobin", LoadBalancer::RoundRobin),
        ("type: WeightedRoundRobin", LoadBalancer::WeightedRoundRobin),
        ("type: LeastRequest", LoadBalancer::LeastRequest),
        ("type: Random", LoadBalancer::Random),
        ("type: PowerOfTwoChoices", LoadBalancer::PowerOfTwoChoices),
        ("type: PeakEwma", LoadBalancer::PeakEwma),
        (
            "type: RingHash, hashKey: {type: SourceAddress}",
            LoadBalancer::RingHash(address()),
        ),
        (
            "type: Maglev, hashKey: {type: SourceAddress}",
            LoadBalancer::Maglev(address()),
        ),
        (
            "type: Maglev, hashKey: {type: Cookie, name: Sid}",
            LoadBalancer::Maglev(HashKey::Cookie("Sid".into())),
        ),
    ] {
        let spec = read(&format!("{{targetRefs: [{{name: a}}], loadBalancer: {{{yaml}}}}}"));
        assert_eq!(spec.load_balancer, Some(expected), "{yaml}");
    }
}
