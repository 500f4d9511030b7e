//! Lines as a collector reads them.

use std::time::UNIX_EPOCH;

use serde_json::{Value, json};

use super::*;
use crate::{
    ids::NodeName,
    model::{Action, AppProtocol, Edits, Family, Limits, PolicySpec, RequestSettings, RouteTimeouts, RuleFailure},
};

fn upstream(name: &str, generation: i64) -> Arc<Upstream> {
    Arc::new(Upstream {
        service: ObjectRef::new("shop", name),
        port: 80,
        family: Family::V4,
        app_protocol: AppProtocol::Detect,
        endpoints: Vec::new(),
        policy: Some(Arc::new(AppliedPolicy {
            name: ObjectRef::new("shop", format!("for-{name}")),
            generation,
            spec: PolicySpec {
                limits: Some(Limits::default()),
                ..PolicySpec::default()
            },
        })),
        settings: Arc::new(RequestSettings::default()),
    })
}

fn workload(name: &str) -> Arc<Workload> {
    Arc::new(Workload {
        pod: ObjectRef::new("shop", format!("{name}-1")),
        uid: "u".to_owned(),
        name: name.to_owned(),
        node: Some(NodeName("n1".to_owned())),
        weight: 1,
        interface: None,
    })
}

fn parties() -> Parties {
    Parties {
        source: Some(workload("client")),
        destination: Some(workload("v1")),
        service: Some(upstream("web", 3)),
    }
}

fn connection() -> Connection {
    Connection {
        client: "10.0.0.9:5000".parse().unwrap(),
        source: None,
        destination: "10.96.0.1:80".parse().unwrap(),
    }
}

fn heard(uri: &str, host: Option<&[u8]>) -> Heard {
    let mut request = http::Request::get(uri);
    if let Some(host) = host {
        request = request.header(HOST, HeaderValue::from_bytes(host).unwrap());
    }
    let (head, ()) = request.body(()).unwrap().into_parts();
    Heard::new(&head, &connection())
}

fn rule() -> Rule {
    Rule {
        route: ObjectRef::new("shop", "r"),
        generation: 5,
        index: 1,
        name: Some("cart".to_owned()),
        action: Action::Fail(RuleFailure::NoBackend),
        edits: Edits::default(),
        settings: Arc::new(RequestSettings::default()),
        timeouts: RouteTimeouts::default(),
        retry: None,
    }
}

fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(1_735_689_600_250)
}

fn parsed(line: &Line<'_>) -> Value {
    let text = line.to_json().unwrap();
    assert_eq!(text.lines().count(), 1);
    assert!(text.ends_with('\n'));
    serde_json::from_str(&text).unwrap()
}

fn request_line(heard: &Heard) -> Value {
    let (parties, rule) = (parties(), rule());
    let end = RequestEnd {
        heard,
        parties: &parties,
        protocol: "http/1.1",
        status: Some(200),
        grpc: None,
        outcome: Outcome::Completed,
        rule: Some(&rule),
        endpoint: Some("10.0.0.1:8080".parse().unwrap()),
        attempts: 2,
        took: Duration::from_millis(250),
        response_bytes: 12,
    };
    parsed(&Line::request(&end, now()))
}

#[test]
fn a_request_has_all_its_fields() {
    let mut heard = heard("/cart?token=secret", Some(b"web.shop"));
    heard.backend = Some(upstream("v1", 4));
    assert_eq!(
        request_line(&heard),
        json!({
            "time": "2025-01-01T00:00:00.000Z",
            "kind": "request",
            "sourceWorkload": "client",
            "sourceNamespace": "shop",
            "sourcePod": "client-1",
            "sourceAddress": "10.0.0.9",
            "destination": "10.96.0.1:80",
            "service": "shop/web",
            "protocol": "http/1.1",
            "method": "GET",
            "host": "web.shop",
            "path": "/cart",
            "status": 200,
            "grpcStatus": null,
            "outcome": "completed",
            "route": "shop/r",
            "routeGeneration": 5,
            "rule": 1,
            "ruleName": "cart",
            "backend": "shop/v1",
            "policy": "shop/for-v1",
            "policyGeneration": 4,
            "addressedPolicy": "shop/for-web",
            "addressedPolicyGeneration": 3,
            "endpoint": "10.0.0.1:8080",
            "endpointPod": "shop/v1-1",
            "attempts": 2,
            "durationMs": 250.0,
            "requestBytes": null,
            "responseBytes": 12,
        })
    );
}

#[test]
fn a_connection_has_bytes_and_nothing_of_http() {
    let parties = Parties {
        source: None,
        ..parties()
    };
    let end = ConnectionEnd {
        client: connection().client,
        destination: connection().destination,
        parties: &parties,
        outcome: Outcome::UpstreamReset,
        endpoint: Some("10.0.0.1:9000".parse().unwrap()),
        took: Duration::from_millis(1),
        bytes: (5, 7),
    };
    let line = parsed(&Line::connection(&end, now()));
    for (field, expected) in [
        ("kind", json!("connection")),
        ("protocol", json!("tcp")),
        ("sourceWorkload", Value::Null),
        ("method", Value::Null),
        ("outcome", json!("upstream_reset")),
        ("policy", json!("shop/for-web")),
        ("endpoint", json!("10.0.0.1:9000")),
        ("attempts", json!(1)),
        ("requestBytes", json!(5)),
        ("responseBytes", json!(7)),
    ] {
        assert_eq!(line[field], expected, "{field}");
    }
}

#[test]
fn what_a_client_sends_is_escaped_and_bounded() {
    let long = format!("/{}", "x".repeat(5000));
    for (uri, host, expected_host, path_bytes) in [
        ("http://in.url/", Some(&b"in.field"[..]), json!("in.url"), 1),
        ("/", Some(b"a\"\xff"), json!("a\"\u{fffd}"), 1),
        ("/", None, Value::Null, 1),
        ("http://me:secret@in.url/", None, json!("in.url"), 1),
        ("/", Some(b"me:secret@in.field"), json!("in.field"), 1),
        (long.as_str(), None, Value::Null, TEXT_BYTES_MAX + "…".len()),
    ] {
        let line = request_line(&heard(uri, host));
        assert_eq!(line["host"], expected_host, "{uri}");
        assert_eq!(line["path"].as_str().map(str::len), Some(path_bytes));
    }
}

#[test]
fn a_method_is_bounded() {
    let mut heard = heard("/", None);
    heard.method = Method::from_bytes(&[b'A'; 60_000]).unwrap();
    let line = request_line(&heard);
    assert_eq!(line["method"].as_str().map(str::len), Some(TEXT_BYTES_MAX + "…".len()));
}
