//! `retry` of a rule: which answers, how often, after which pause.

use anyhow::{Context as _, Result, ensure};
use hyper::Method;
use mesh_tests::{
    bench::wait_for,
    client::{self, Load, Version},
    daemon::HANG_GUARD,
    shop::Shop,
};
use serde_json::json;

use super::{RULE, WEB, add_service, apply, ask, routed, settle};

/// Retries by what became of them.
const RETRIES: &str = "weft_retries_total";

const ROUTE: &str = "
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: web, namespace: shop}
spec:
  parentRefs: [{group: '', kind: Service, name: web}]
  rules:
    - matches: [{path: {value: /two}}]
      retry: {codes: [503], attempts: 2, backoff: 1ms}
      backendRefs: &one [{name: one, port: 80}]
    - matches: [{path: {value: /default}}]
      retry: {codes: [503, 429]}
      backendRefs: *one
    - matches: [{path: {value: /too-late}}]
      timeouts: {request: 5s}
      retry: {codes: [503], attempts: 2, backoff: 1h}
      backendRefs: *one
    - matches: [{path: {value: /slow}}]
      timeouts: {backendRequest: 1s}
      retry: {attempts: 1, backoff: 1ms}
      backendRefs: *one
    - matches: [{path: {value: /none}}]
      backendRefs: *one
    - matches: [{path: {value: /weft.test.Echo}}]
      retry: {attempts: 100, backoff: 100ms}
      backendRefs: *one
    - matches: [{path: {value: /codes-of-policy}}]
      retry: {attempts: 2, backoff: 1ms}
      backendRefs: *one
    - matches: [{path: {value: /split}}]
      retry: {codes: [503], attempts: 1, backoff: 1ms}
      backendRefs:
        - name: pair
          port: 80
          filters: [{type: ResponseHeaderModifier, responseHeaderModifier: {set: [{name: x-rule, value: pair}]}}]
        - name: other
          port: 80
          filters: [{type: ResponseHeaderModifier, responseHeaderModifier: {set: [{name: x-rule, value: other}]}}]
---
# these tests retry more than any budget would let them; nothing else of it is asked for by the rules' own fields
apiVersion: weft.mesh/v1alpha1
kind: TrafficPolicy
metadata: {name: web, namespace: shop}
spec:
  targetRefs: [{group: '', kind: Service, name: web}]
  retry: {codes: [418], budget: {percent: 100, minRetryRate: {count: 1000000, interval: 1s}}}
";

/// Requests of which some surely meet both backends and their failing endpoint: none of 60 does in less than one of 10 million runs (0.75^60).
const SPLIT_REQUESTS: usize = 60;

/// The route, with all requests to one server.
fn with_route(story: impl FnOnce(&mut Shop) -> Result<()>) {
    routed(|shop| {
        add_service(shop, "one", 1, &["web-1"])?;
        apply(shop, ROUTE)?;
        story(shop)
    });
}

/// One request to a server that answers the next `times` requests with `status`: how it was answered, and how often the server was asked.
fn tried(shop: &Shop, load: &Load, status: u16, times: u64) -> Result<(u16, u64)> {
    shop.behave("web-1", &json!({"status": status, "times": times}))?;
    let before = shop.served("web-1")?;
    let answer = ask(shop, load)?;
    let served = shop.served("web-1")? - before;
    shop.behave("web-1", &json!({}))?;
    Ok((answer.status, served))
}

#[test]
fn codes_and_attempts_say_what_is_tried_again_and_how_often() {
    with_route(|shop| {
        // path, the server's status and for how many requests; the client's answer and how often the server was asked
        let cases: [(&str, u16, u64, (u16, u64)); 10] = [
            ("/two", 503, 1, (200, 2)),
            ("/two", 503, 2, (200, 3)),
            ("/two", 503, 3, (503, 3)),
            ("/two", 500, 1, (500, 1)),
            ("/default", 503, 1, (200, 2)),
            ("/default", 429, 1, (200, 2)),
            ("/default", 503, 2, (503, 2)),
            ("/none", 503, 1, (503, 1)),
            // what the rule does not say is the policy's, and what it says is not
            ("/codes-of-policy", 418, 2, (200, 3)),
            ("/two", 418, 1, (418, 1)),
        ];
        for (path, status, times, expected) in cases {
            for target in WEB {
                for version in [Version::Http1, Version::Http2] {
                    let load = Load::fresh(version, target).path(path);
                    let found = tried(shop, &load, status, times)?;
                    ensure!(found == expected, "{load:?}: {status} {times} times: {found:?}");
                }
            }
        }
        Ok(())
    });
}

#[test]
fn only_what_is_safe_is_tried_again_and_with_its_body() {
    with_route(|shop| {
        let load = Load::fresh(Version::Http1, WEB[0]).path("/two").body("a body");
        let found = tried(shop, &load.clone().method(Method::POST), 503, 1)?;
        ensure!(found == (503, 1), "POST: {found:?}");
        shop.behave("web-1", &json!({"status": 503, "times": 1}))?;
        let echoed = super::echoed(shop, load.method(Method::PUT))?;
        ensure!(echoed["method"] == "PUT" && echoed["body"] == "a body", "{echoed}");
        Ok(())
    });
}

#[test]
fn a_pause_that_is_longer_than_the_time_left_is_not_begun() {
    with_route(|shop| {
        let before = shop.metrics()?;
        let found = tried(shop, &Load::fresh(Version::Http1, WEB[0]).path("/too-late"), 503, 1)?;
        ensure!(found == (503, 1), "{found:?}");
        let since = shop.metrics()?.since(&before);
        ensure!(
            since
                .by(RETRIES, "result", &[("result", "no_time")])
                .values()
                .sum::<f64>()
                > 0.5
        );
        Ok(())
    });
}

#[test]
fn an_attempt_that_takes_too_long_is_tried_again() {
    with_route(|shop| {
        for version in [Version::Http1, Version::Http2] {
            shop.behave("web-1", &json!({"delay_ms": 8000, "times": 1}))?;
            let answer = ask(shop, &Load::fresh(version, WEB[0]).path("/slow"))?;
            ensure!(answer.status == 200 && answer.text() == "web-1", "{answer:?}");
        }
        Ok(())
    });
}

#[test]
fn a_grpc_call_that_nobody_took_is_tried_until_somebody_does() {
    with_route(|shop| {
        for target in WEB {
            shop.kill_server("web-1");
            let before = shop.metrics()?;
            let netns = shop.client.netns.clone();
            let call = std::thread::spawn(move || client::ask(&netns, &Load::grpc(target)));
            wait_for("a retry", HANG_GUARD, || {
                Ok((shop.metrics()?.since(&before).sum(RETRIES, &[]) > 1.5).then_some(()))
            })?;
            shop.start_server("web-1")?;
            let answer = call.join().ok().context("the call panicked")??;
            ensure!(answer.grpc_status() == Some(0), "{answer:?}");
        }
        Ok(())
    });
}

#[test]
fn a_retry_stays_in_the_backend_and_goes_to_another_endpoint() {
    with_route(|shop| {
        add_service(shop, "pair", 2, &["web-1", "web-2"])?;
        add_service(shop, "other", 3, &["web-3"])?;
        settle(shop)?;
        shop.behave("web-1", &json!({"status": 503}))?;
        let before = shop.served("web-1")?;
        for _ in 0..SPLIT_REQUESTS {
            let answer = ask(shop, &Load::fresh(Version::Http1, WEB[0]).path("/split"))?;
            let (backend, pod) = (answer.header(RULE), answer.text());
            ensure!(
                answer.status == 200 && matches!((backend, pod.as_str()), ("pair", "web-2") | ("other", "web-3")),
                "{answer:?}"
            );
        }
        ensure!(shop.served("web-1")? > before, "nothing was ever retried");
        Ok(())
    });
}

#[test]
fn what_asks_for_an_upgrade_is_sent_once() {
    with_route(|shop| {
        let load = Load::fresh(Version::Http1, WEB[0]).path("/two");
        let found = tried(
            shop,
            &load.header("connection", "upgrade").header("upgrade", "echo"),
            503,
            1,
        )?;
        ensure!(found == (503, 1), "{found:?}");
        Ok(())
    });
}

/// A poor budget for who addresses `web`, a richer one for who addresses the backend itself; so few that each retry shows.
const BUDGETS: &str = "
apiVersion: weft.mesh/v1alpha1
kind: TrafficPolicy
metadata: {name: web, namespace: shop}
spec:
  targetRefs: [{group: '', kind: Service, name: web}]
  retry: {codes: [503], attempts: 1, backoff: 0s, budget: {percent: 0, interval: 1h, minRetryRate: {count: 2, interval: 1h}}}
---
apiVersion: weft.mesh/v1alpha1
kind: TrafficPolicy
metadata: {name: one, namespace: shop}
spec:
  targetRefs: [{group: '', kind: Service, name: one}]
  retry: {codes: [503], attempts: 1, backoff: 0s, budget: {percent: 0, interval: 1h, minRetryRate: {count: 3, interval: 1h}}}
";

#[test]
fn the_budget_is_that_of_the_service_that_was_addressed() {
    with_route(|shop| {
        apply(shop, BUDGETS)?;
        shop.behave("web-1", &json!({"status": 503}))?;
        let retries = |target| -> Result<u64> {
            let before = shop.served("web-1")?;
            for _ in 0..6 {
                let answer = ask(shop, &Load::fresh(Version::Http1, target).path("/none"))?;
                ensure!(answer.status == 503, "{answer:?}");
            }
            Ok(shop.served("web-1")? - before - 6)
        };
        // both end at the same endpoint of the same backend
        let (by_web, by_one) = (retries(WEB[0])?, retries(super::at(1)[0])?);
        ensure!(
            (by_web, by_one) == (2, 3),
            "{by_web} retries by way of web, and then {by_one} by way of its backend"
        );
        Ok(())
    });
}
