//! The thinnest path through all of routing, balancing and breaking: one of each family, over both versions of HTTP and gRPC.

use anyhow::ensure;
use mesh_tests::{
    announce::Announce as _,
    bench::wait_for,
    client::{self, Load, Version},
    daemon::HANG_GUARD,
    shop::{WEB4, WEB6},
};
use serde_json::json;

use crate::captured;

const ROUTE: &str = "
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: web, namespace: shop}
spec:
  parentRefs: [{group: '', kind: Service, name: web, port: 80}]
  rules:
    - matches: [{path: {type: PathPrefix, value: /old}}]
      filters:
        - type: URLRewrite
          urlRewrite: {path: {type: ReplacePrefixMatch, replacePrefixMatch: /new}}
        - type: RequestHeaderModifier
          requestHeaderModifier: {set: [{name: x-by, value: weft}]}
      backendRefs: [{name: web, port: 80}]
    - matches: [{path: {type: PathPrefix, value: /late}}]
      timeouts: {request: 200ms}
      backendRefs: [{name: web, port: 80}]
    - matches: [{path: {type: PathPrefix, value: /weft.test.Echo}}]
      backendRefs: [{name: web, port: 80}]
";

const POLICY: &str = "
apiVersion: weft.mesh/v1alpha1
kind: TrafficPolicy
metadata: {name: web, namespace: shop}
spec:
  targetRefs: [{group: '', kind: Service, name: web}]
  circuitBreaker: {failureThreshold: 3, successThreshold: 1, timeout: 1s, halfOpenRequests: 1}
";

#[test]
fn a_route_and_a_policy_take_effect_and_go() {
    captured(|shop| {
        shop.objects.apply(ROUTE)?;
        let netns = shop.client.netns.clone();
        wait_for("the route", HANG_GUARD, || {
            let answer = client::once(&netns, Version::Http1, WEB4, "/nothing")?;
            Ok((answer.status == 404).then_some(()))
        })?;
        for target in [WEB4, WEB6] {
            for version in [Version::Http1, Version::Http2] {
                let load = Load::fresh(version, target).path("/old/a?b=c").header("x-echo", "1");
                let answer = client::ask(&netns, &load)?;
                ensure!(answer.status == 200, "{answer:?}");
                let echoed = answer.echoed()?;
                ensure!(
                    echoed["uri"].as_str().is_some_and(|uri| uri.ends_with("/new/a?b=c")),
                    "{echoed}"
                );
                ensure!(echoed["headers"]["x-by"] == "weft", "{echoed}");
            }
            let answer = client::ask(&netns, &Load::grpc(target))?;
            ensure!(answer.grpc_status() == Some(0), "{answer:?}");
        }
        for name in ["web-1", "web-2", "web-3"] {
            shop.behave(name, &json!({"delay_ms": 1000, "times": 1}))?;
        }
        let answer = client::once(&netns, Version::Http1, WEB4, "/late")?;
        ensure!(
            answer.status == 504 && answer.header("x-weft-reason") == "timeout",
            "{answer:?}"
        );
        shop.objects.delete("HTTPRoute", "shop", "web")?;
        wait_for("the end of the route", HANG_GUARD, || {
            let answer = client::once(&netns, Version::Http1, WEB4, "/nothing")?;
            Ok((answer.status == 200).then_some(()))
        })
    });
}

#[test]
fn a_breaker_opens_and_closes() {
    captured(|shop| {
        shop.behave("web-2", &json!({"status": 500}))?;
        shop.objects.apply(POLICY)?;
        let load = Load::fresh(Version::Http1, WEB4);
        wait_for("the breaker", HANG_GUARD, || {
            let tally = shop.send(&load, 12)?;
            Ok((tally.failed == 0).then_some(()))
        })?;
        let before = shop.served("web-2")?;
        ensure!(before >= 3, "{before}");
        shop.behave("web-2", &json!({}))?;
        wait_for("web-2 to be asked again", HANG_GUARD, || {
            let tally = shop.send(&load, 12)?;
            Ok((tally.failed == 0 && tally.by_body.get("web-2") == Some(&4)).then_some(()))
        })
    });
}
