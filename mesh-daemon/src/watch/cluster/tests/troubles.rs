//! Each trouble's sentence: who, what, and what to do.

use std::{rc::Rc, time::Duration};

use hyper::Response;
use kube::{client::Body, core::Status};

use super::super::{
    trouble::{Asked, Trouble},
    wire::refusal,
};
use crate::watch::objects::Kind;

fn asked() -> Asked {
    Asked {
        url: Rc::from("https://10.0.0.1:6443"),
        verb: "watch",
        kind: Kind::EndpointSlice,
    }
}

fn has(trouble: &Trouble, reason: &str, parts: &[&str]) {
    assert_eq!(trouble.reason, reason, "{trouble:?}");
    for part in parts.iter().chain(&["https://10.0.0.1:6443"]) {
        assert!(trouble.sentence.contains(part), "{trouble:?} lacks {part:?}");
    }
}

#[test]
fn refusals_say_what_to_do() {
    let status = |code| Status::failure("it says so", "").with_code(code);
    for (code, reason, parts) in [
        (
            401,
            "unauthorized",
            &["(401)", "renew", "kubeconfig", "ServiceAccount"][..],
        ),
        (
            403,
            "forbidden",
            &[
                "watch EndpointSlices",
                "ClusterRole weft-mesh-daemon",
                "deploy/daemonset/rbac.yaml",
            ],
        ),
        (404, "not_found", &["EndpointSlices", "URL"]),
        (429, "too_many_requests", &["429", "more slowly"]),
        (500, "server_error", &["watch EndpointSlices", "500: it says so", "log"]),
        (504, "server_error", &["504"]),
        (418, "refused", &["418: it says so"]),
    ] {
        has(&asked().refusal(&status(code)), reason, parts);
    }
    let long = Status::failure(&"x".repeat(5000), "").with_code(500);
    assert!(asked().refusal(&long).sentence.len() < 500);
    let mut slower = status(429);
    slower.details = serde_json::from_value(serde_json::json!({"retryAfterSeconds": 7})).unwrap();
    assert_eq!(asked().refusal(&slower).retry_after, Some(Duration::from_secs(7)));
}

#[tokio::test]
async fn how_long_to_wait_is_in_the_head_or_in_the_status() {
    for (head, body, seconds) in [
        (Some("3"), r#"{"code":429,"details":{"retryAfterSeconds":7}}"#, Some(3)),
        (None, r#"{"code":429,"details":{"retryAfterSeconds":7}}"#, Some(7)),
        // priority and fairness
        (Some("1"), "Too many requests, please try again later.\n", Some(1)),
        (Some("Fri, 01 Jan 2027 00:00:00 GMT"), "", None),
        (None, "", None),
    ] {
        let mut response = Response::builder().status(429);
        if let Some(head) = head {
            response = response.header("retry-after", head);
        }
        let response = response.body(Body::from(body.as_bytes().to_vec())).unwrap();
        let trouble = asked().refusal(&refusal(response, Duration::from_secs(30)).await);
        assert_eq!(trouble.reason, "too_many_requests");
        let waits = seconds.map(Duration::from_secs);
        assert_eq!(trouble.retry_after, waits, "{head:?} {body}");
    }
}

#[test]
fn answers_that_are_late_cut_or_garbled_say_where_to_look() {
    has(
        &asked().late("did not answer within 30 s"),
        "timeout",
        &["within 30 s", "network"],
    );
    has(
        &asked().cut("in the middle of an object"),
        "cut_short",
        &["load balancers"],
    );
    let told = asked().disconnected("ServiceError: peer closed: https://docs.example/long");
    has(&told, "disconnected", &["(peer closed)"]);
    assert!(!told.sentence.contains("EndpointSlices"), "{told:?}");
    let error = |text| serde_json::from_str::<Vec<u8>>(text).unwrap_err();
    has(
        &asked().undecodable(&error("[1,")),
        "cut_short",
        &["in the middle of an object"],
    );
    has(
        &asked().undecodable(&error("<html>")),
        "garbled",
        &["not Kubernetes' JSON", "URL"],
    );
}
