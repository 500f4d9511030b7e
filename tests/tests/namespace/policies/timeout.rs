//! `timeout`: for a request with all its attempts, and for each of them; and what a route says instead.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use mesh_tests::{
    announce::Announce as _,
    bench::wait_for,
    client::{self, Answer, Load, Version},
    daemon::HANG_GUARD,
    shop::{Shop, WEB4},
};
use serde_json::json;

use super::{WELL, all_behave, ask, ask_counted, get, is_servers, obey, one_server};
use crate::captured;

/// Beyond the client's own patience: nothing but a timeout of the mesh ends it.
const NEVER_MS: u64 = 60_000;

fn late(answer: &Answer) -> Result<()> {
    ensure!(
        answer.status == 504 && answer.header(super::REASON) == "timeout",
        "{answer:?}"
    );
    Ok(())
}

#[test]
fn of_a_request_before_the_head_and_after_it() {
    one_server(|shop| {
        obey(shop, &["timeout: {request: 300ms}"])?;
        shop.behave("web-1", &json!({"delay_ms": NEVER_MS}))?;
        for version in [Version::Http1, Version::Http2] {
            late(&client::once(&shop.client.netns, version, WEB4, "/")?)?;
        }
        let call = client::ask(&shop.client.netns, &Load::grpc(WEB4))?;
        ensure!(call.grpc_status() == Some(4), "DEADLINE_EXCEEDED: {call:?}");
        shop.behave("web-1", &json!({"body_delay_ms": NEVER_MS}))?;
        for version in [Version::Http1, Version::Http2] {
            let answer = client::once(&shop.client.netns, version, WEB4, "/");
            ensure!(answer.is_err(), "{version:?}: a body that looks whole: {answer:?}");
        }
        shop.behave("web-1", &json!({"delay_ms": 600}))?;
        late(&ask(shop)?)?;
        obey(shop, &["timeout: {request: 0s}"])?;
        is_servers(&ask(shop)?, 200)
    });
}

#[test]
fn of_each_attempt() {
    captured(|shop| {
        let retry = "retry: {attempts: 2, backoff: 0s}";
        obey(shop, &[retry, "timeout: {backendRequest: 200ms}"])?;
        all_behave(shop, &json!({"delay_ms": NEVER_MS, "times": 1}))?;
        let (answer, served) = ask_counted(shop, &get())?;
        late(&answer)?;
        ensure!(served == 3, "{served}");
        all_behave(shop, &WELL())?;
        shop.behave("web-2", &json!({"delay_ms": NEVER_MS}))?;
        for _ in 0..6 {
            is_servers(&ask(shop)?, 200)?;
        }
        // without a retry the first one's is the request's
        all_behave(shop, &json!({"delay_ms": NEVER_MS}))?;
        obey(shop, &["timeout: {backendRequest: 200ms}"])?;
        let (answer, served) = ask_counted(shop, &get())?;
        late(&answer)?;
        ensure!(
            served == 1 && answer.text().contains("`backendRequest`"),
            "{served}: {}",
            answer.text()
        );
        // all attempts have 500 ms together: the third has what is left, and there is no fourth
        obey(
            shop,
            &[
                "retry: {attempts: 10, backoff: 0s}",
                "timeout: {request: 500ms, backendRequest: 200ms}",
            ],
        )?;
        let start = Instant::now();
        let (answer, served) = ask_counted(shop, &get())?;
        late(&answer)?;
        ensure!(served <= 3 && start.elapsed() >= Duration::from_millis(500), "{served}");
        // the second attempt is ended by what is left of the request's time, and the answer says so
        obey(
            shop,
            &[
                "retry: {attempts: 1, backoff: 0s}",
                "timeout: {request: 3s, backendRequest: 2s}",
            ],
        )?;
        let (answer, served) = ask_counted(shop, &get())?;
        late(&answer)?;
        ensure!(
            served == 2 && answer.text().contains("`request`"),
            "{served}: {}",
            answer.text()
        );
        Ok(())
    });
}

const ROUTE: &str = "
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: web, namespace: shop}
spec:
  parentRefs: [{group: '', kind: Service, name: web, port: 80}]
  rules:
    - matches: [{path: {type: PathPrefix, value: /none}}]
      timeouts: {request: 0s}
      backendRefs: [{name: web, port: 80}]
    - matches: [{path: {type: PathPrefix, value: /long}}]
      timeouts: {request: 20s}
      backendRefs: [{name: web, port: 80}]
    - matches: [{path: {type: PathPrefix, value: /attempts}}]
      retry: {attempts: 3}
      backendRefs: [{name: web, port: 80}]
    - matches: [{path: {type: PathPrefix, value: /codes}}]
      retry: {codes: [500]}
      backendRefs: [{name: web, port: 80}]
    - matches: [{path: {type: PathPrefix, value: /}}]
      backendRefs: [{name: web, port: 80}]
";

/// The route is there once a path that only it knows is refused as its rule says: here, once another policy's time no longer holds.
fn wait_route(shop: &Shop) -> Result<()> {
    wait_for("the route", HANG_GUARD, || {
        let routed = super::known(shop, "route")?;
        Ok(routed.then_some(()))
    })?;
    super::applied(shop)
}

#[test]
fn a_routes_rule_wins_over_the_policy_field_by_field() {
    one_server(|shop| {
        let budget = "budget: {percent: 100, minRetryRate: {count: 1000, interval: 1s}}";
        obey(
            shop,
            &[
                "timeout: {request: 300ms}",
                &format!("retry: {{attempts: 1, codes: [503], retryOn: [], backoff: 0s, {budget}}}"),
            ],
        )?;
        shop.objects.apply(ROUTE)?;
        wait_route(shop)?;
        shop.behave("web-1", &json!({"delay_ms": 900}))?;
        for (path, expected) in [("/", 504), ("/attempts", 504), ("/none", 200), ("/long", 200)] {
            let answer = client::ask(&shop.client.netns, &get().path(path))?;
            ensure!(answer.status == expected, "{path}: {answer:?}");
        }
        for (path, status, expected) in [
            ("/", 503, 2),
            ("/long", 503, 2),
            ("/attempts", 503, 4),
            ("/attempts", 500, 1),
            ("/codes", 500, 2),
            ("/codes", 503, 1),
        ] {
            shop.behave("web-1", &json!({"status": status}))?;
            let (answer, served) = ask_counted(shop, &get().path(path))?;
            ensure!(
                answer.status == status && served == expected,
                "{path} {status}: {served} {answer:?}"
            );
        }
        Ok(())
    });
}
