//! Kinds of CustomResourceDefinitions, which may be missing, come and go, or not be allowed yet.

use std::time::Duration;

use prometheus::TextEncoder;
use serde_json::json;

use super::{
    super::{kind::Said, patience::Patience},
    object,
    readiness::{Opened, open, ready},
    server::{Answer, PATIENCE, STREAM, Then, answer, end_of_list, event, refused, says_of},
};
use crate::{ready::State, watch::objects::Kind};

const ROUTES: &[&str] = &[
    "/apis/gateway.networking.k8s.io/v1/httproutes?",
    "sendInitialEvents=true",
];
const ROUTES_PAGE: &[&str] = &["/apis/gateway.networking.k8s.io/v1/httproutes?", "limit=500"];
const ROUTES_FROM_4: &[&str] = &["/apis/gateway.networking.k8s.io/v1/httproutes?", "resourceVersion=4"];

/// What a server says that has never heard of the kind.
fn unknown(asked: &'static [&'static str]) -> Answer {
    Answer {
        status: 404,
        ..answer(asked, "404 page not found\n", Then::End)
    }
}

#[test]
fn a_kind_that_is_missing_is_asked_for_again_until_it_is_there() {
    let list = [event("ADDED", "a", 3), end_of_list(3)].concat();
    says_of(
        Kind::HttpRoute,
        PATIENCE,
        vec![unknown(ROUTES), unknown(ROUTES), answer(ROUTES, list, Then::Hang)],
        &[
            "listing", "absent", "listing", "absent", "listing", "listed a", "complete",
        ],
        Duration::ZERO,
    );
}

#[test]
fn it_is_not_asked_for_all_the_time() {
    let patience = Patience {
        absent: Duration::from_secs(3600),
        ..PATIENCE
    };
    let still = Duration::from_millis(300);
    says_of(
        Kind::TrafficPolicy,
        patience,
        vec![unknown(&["/apis/weft.mesh/v1alpha1/trafficpolicies?"])],
        &["listing", "absent"],
        still,
    );
}

#[test]
fn one_that_goes_is_missing_from_then_on() {
    says_of(
        Kind::HttpRoute,
        PATIENCE,
        vec![
            answer(ROUTES, [event("ADDED", "a", 3), end_of_list(4)].concat(), Then::End),
            unknown(ROUTES_FROM_4),
            unknown(ROUTES),
        ],
        &["listing", "listed a", "complete", "listing", "absent"],
        Duration::ZERO,
    );
}

#[test]
fn lists_in_pages_miss_it_just_the_same() {
    says_of(
        Kind::HttpRoute,
        PATIENCE,
        vec![refused(ROUTES, 400), unknown(ROUTES_PAGE)],
        &["listing", "absent"],
        Duration::ZERO,
    );
}

#[test]
fn kinds_that_every_server_has_are_not_missing() {
    says_of(
        Kind::Pod,
        PATIENCE,
        vec![unknown(STREAM), answer(STREAM, end_of_list(3), Then::Hang)],
        &["listing", "failed not_found", "listing", "complete"],
        Duration::ZERO,
    );
}

/// Everything but the kinds that may be missing.
async fn served() -> Opened {
    let mut opened = open().await;
    for kind in Kind::ALL.into_iter().filter(|kind| !kind.is_optional()) {
        opened.list(kind, Vec::new());
    }
    assert!(!opened.cluster.is_complete());
    opened
}

fn route(version: u64) -> super::Raw {
    let spec = json!({"parentRefs": [{"group": "", "kind": "Service", "name": "web"}]});
    let status =
        json!({"parents": [{"controllerName": "weft.mesh/mesh-daemon"}, {"controllerName": "example.net/other"}]});
    object("r", "r", version, json!({"spec": spec, "status": status}))
}

fn scrape(opened: &Opened) -> String {
    TextEncoder::new().encode_to_string(&opened.registry.gather()).unwrap()
}

#[tokio::test]
async fn nobody_waits_for_a_kind_that_is_missing_and_it_comes_and_goes() {
    let mut opened = served().await;
    assert!(opened.cluster.take(Kind::TrafficPolicy, Said::Absent));
    assert!(opened.cluster.take(Kind::HttpRoute, Said::Absent));
    assert!(opened.cluster.is_complete());
    assert_eq!(opened.state("list of HTTPRoutes"), ready());
    assert!(scrape(&opened).contains("weft_watch_absent{kind=\"HTTPRoute\"} 1"));
    // still missing: no news, and no relist
    for _ in 0..3 {
        opened.cluster.take(Kind::HttpRoute, Said::Listing);
        assert!(!opened.cluster.take(Kind::HttpRoute, Said::Absent));
    }
    assert!(opened.list(Kind::HttpRoute, vec![route(1)]));
    assert_eq!(opened.cluster.objects().routes.len(), 1);
    let told = scrape(&opened);
    for line in [
        "weft_watch_absent{kind=\"HTTPRoute\"} 0",
        "weft_watch_absent{kind=\"TrafficPolicy\"} 1",
        "weft_watch_relists_total{kind=\"HTTPRoute\"} 0",
        "weft_watch_up{kind=\"TrafficPolicy\"} 1",
    ] {
        assert!(told.contains(line), "{line}\n{told}");
    }
    assert!(opened.cluster.take(Kind::HttpRoute, Said::Absent));
    assert!(opened.cluster.objects().routes.is_empty() && opened.cluster.is_complete());
    assert_eq!(opened.state("list of HTTPRoutes"), ready());
}

#[tokio::test]
async fn a_kind_that_may_not_be_read_is_told_and_keeps_nobody_from_serving() {
    let mut opened = served().await;
    opened.cluster.take(Kind::TrafficPolicy, Said::Absent);
    assert!(
        opened.fail_with(Kind::HttpRoute, "forbidden", "may not list HTTPRoutes"),
        "now everything is known"
    );
    assert!(opened.cluster.is_complete());
    let note = "may not list HTTPRoutes; none of them is applied until then".to_owned();
    assert_eq!(opened.state("list of HTTPRoutes"), State::Ready(Some(note)));
    assert!(scrape(&opened).contains("weft_watch_up{kind=\"HTTPRoute\"} 0"));
    assert!(!opened.fail_with(Kind::HttpRoute, "forbidden", "may not list HTTPRoutes"));
    assert_eq!(
        opened.cluster.trouble(),
        None,
        "the other lists are well: what they say is worth saving"
    );
    // the right came
    assert!(opened.list(Kind::HttpRoute, vec![route(1)]));
    assert_eq!(opened.state("list of HTTPRoutes"), ready());
    // and went: what was said holds on
    assert!(!opened.fail_with(Kind::HttpRoute, "forbidden", "may not watch HTTPRoutes"));
    assert_eq!(opened.cluster.objects().routes.len(), 1);
    let note = "may not watch HTTPRoutes; what it said last holds on".to_owned();
    assert_eq!(opened.state("list of HTTPRoutes"), State::Ready(Some(note)));
}

#[tokio::test]
async fn a_server_that_is_away_is_waited_for() {
    let mut opened = served().await;
    opened.cluster.take(Kind::TrafficPolicy, Said::Absent);
    for reason in ["unreachable", "server_error", "unauthorized"] {
        opened.fail_with(Kind::HttpRoute, reason, "away");
        assert!(!opened.cluster.is_complete(), "{reason}");
        assert_eq!(opened.state("list of HTTPRoutes"), State::Pending(Some("away".into())));
    }
}

#[tokio::test]
async fn what_statuses_say_in_our_name_is_told_to_their_writer() {
    let mut opened = open().await;
    let mut claims = opened.cluster.claims.subscribe();
    opened.list(Kind::HttpRoute, vec![route(1)]);
    assert!(
        !claims.has_changed().unwrap(),
        "what is published may be a saved state yet"
    );
    for kind in Kind::ALL.into_iter().filter(|kind| *kind != Kind::HttpRoute) {
        opened.list(kind, Vec::new());
    }
    assert!(claims.has_changed().unwrap());
    let entries: Vec<_> = claims
        .borrow_and_update()
        .values()
        .map(|claim| claim.entries.clone())
        .collect();
    assert_eq!(entries, [vec![json!({"controllerName": "weft.mesh/mesh-daemon"})]]);
    opened.cluster.take(Kind::HttpRoute, Said::Applied(route(2)));
    assert!(!claims.has_changed().unwrap(), "nothing of it is new");
    // also of a route that is nothing to the model
    let mut gateway = route(3);
    gateway.0["spec"]["parentRefs"] = json!([{"name": "gateway"}]);
    gateway.0["metadata"]["generation"] = json!(2);
    opened.cluster.take(Kind::HttpRoute, Said::Applied(gateway));
    assert!(opened.cluster.objects().routes.is_empty());
    assert_eq!(
        claims
            .borrow_and_update()
            .values()
            .map(|claim| claim.generation)
            .collect::<Vec<_>>(),
        [2]
    );
    opened.cluster.take(Kind::HttpRoute, Said::Absent);
    assert!(claims.borrow_and_update().is_empty());
}
