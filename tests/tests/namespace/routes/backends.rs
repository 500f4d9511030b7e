//! Which backend takes a request.

use std::{collections::BTreeMap, net::IpAddr};

use anyhow::{Result, ensure};
use mesh_tests::{
    client::{Load, Version},
    manifests::Port,
    process::Process,
    shop::{HTTP_PORT, Shop},
};

use super::{WEB, add_service, apply, ask, refused, routed, service};

/// Requests by which a split is judged.
const REQUESTS: u64 = 1000;
/// How far a share of 100 of [`REQUESTS`] may be off: by more in less than 3 of 10 million runs (binomial distribution, p = 0.1).
const OFF_MAX: u64 = 50;
/// Port of a second server in a pod.
const SECOND_PORT: u16 = 8090;

/// A route of `web` with these backends, in YAML's flow style.
fn route(backends: &str) -> String {
    format!(
        "
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{name: web, namespace: shop}}
spec:
  parentRefs: [{{group: '', kind: Service, name: web}}]
  rules: [{{backendRefs: {backends}}}]
"
    )
}

/// Answers by pod, the frame of a gRPC message aside.
fn by_pod(shop: &Shop, load: &Load, requests: u64) -> Result<BTreeMap<String, u64>> {
    let tally = shop.send(load, requests)?;
    crate::all_answered(&tally)?;
    let mut pods = BTreeMap::new();
    for (body, count) in tally.by_body {
        let pod = body.find("web-").map_or("", |at| &body[at..]);
        *pods.entry(pod.to_owned()).or_default() += count;
    }
    Ok(pods)
}

#[test]
fn weights_split_requests_in_each_version_and_family() {
    routed(|shop| {
        add_service(shop, "most", 1, &["web-1"])?;
        add_service(shop, "few", 2, &["web-2"])?;
        apply(
            shop,
            &route("[{name: most, port: 80, weight: 90}, {name: few, port: 80, weight: 10}]"),
        )?;
        let call = |target| Load {
            reuse: true,
            ..Load::grpc(target)
        };
        for target in WEB {
            for load in [
                Load::reused(Version::Http1, target),
                Load::reused(Version::Http2, target),
                call(target),
            ] {
                let pods = by_pod(shop, &load, REQUESTS)?;
                let few = pods.get("web-2").copied().unwrap_or_default();
                ensure!(
                    pods.len() == 2 && few.abs_diff(REQUESTS / 10) <= OFF_MAX,
                    "{load:?}: {pods:?}"
                );
            }
        }
        Ok(())
    });
}

#[test]
fn a_weight_of_0_gets_nothing_and_none_is_1() {
    routed(|shop| {
        for (number, name) in [(1, "web-1"), (2, "web-2"), (3, "web-3")] {
            add_service(shop, &format!("only-{name}"), number, &[name])?;
        }
        apply(
            shop,
            &route(
                "[{name: only-web-1, port: 80}, {name: only-web-2, port: 80, weight: 9}, {name: only-web-3, port: 80, weight: 0}]",
            ),
        )?;
        let pods = by_pod(shop, &Load::reused(Version::Http1, WEB[0]), REQUESTS)?;
        let one = pods.get("web-1").copied().unwrap_or_default();
        ensure!(pods.len() == 2 && one.abs_diff(REQUESTS / 10) <= OFF_MAX, "{pods:?}");
        Ok(())
    });
}

#[test]
fn a_backend_may_be_of_another_namespace() {
    routed(|shop| {
        let mut far = service(shop, "far", 1, &["web-2"])?;
        "away".clone_into(&mut far.namespace);
        shop.objects.namespace("away", None)?;
        shop.services.insert("far".to_owned(), far);
        shop.publish()?;
        apply(shop, &route("[{name: far, namespace: away, port: 80}]"))?;
        let pods = by_pod(shop, &Load::fresh(Version::Http1, WEB[0]), 9)?;
        ensure!(pods == [("web-2".to_owned(), 9)].into(), "{pods:?}");
        // without the namespace it is one of the route's own, where there is none
        apply(shop, &route("[{name: far, port: 80}]"))?;
        refused(shop, &Load::fresh(Version::Http1, WEB[0]), 500, "backend_unresolved")
    });
}

#[test]
fn a_backends_port_is_the_services_whatever_the_client_asked() {
    routed(|shop| {
        let pod = shop.server("web-1")?.pod.clone();
        let port = SECOND_PORT.to_string();
        let log = shop.bench.dir().join("second.log");
        let args = ["--name", "web-second", "--port", &port];
        let _second = Process::in_namespace(&pod.netns, "weft-server", &args, &log)?;
        let mut ports = service(shop, "ports", 1, &["web-1"])?;
        ports.ports = vec![Port::new("a", 81, HTTP_PORT), Port::new("b", 82, SECOND_PORT)];
        shop.services.insert("ports".to_owned(), ports);
        shop.publish()?;
        for (port, expected) in [(81, "web-1"), (82, "web-second")] {
            apply(shop, &route(&format!("[{{name: ports, port: {port}}}]")))?;
            let load = Load::fresh(Version::Http1, WEB[0]);
            mesh_tests::bench::wait_for("the server", mesh_tests::daemon::HANG_GUARD, || {
                let answer = ask(shop, &load)?;
                Ok((answer.status == 200).then_some(()))
            })?;
            let pods = by_pod(shop, &load, 9)?;
            ensure!(pods == [(expected.to_owned(), 9)].into(), "{port}: {pods:?}");
        }
        Ok(())
    });
}

#[test]
fn a_backend_that_has_the_other_family_alone_is_reached_by_that() {
    routed(|shop| {
        for (number, is_kept) in [(1, IpAddr::is_ipv4 as fn(&IpAddr) -> bool), (2, IpAddr::is_ipv6)] {
            let mut one = service(shop, "one-family", number, &["web-2"])?;
            one.ips.retain(is_kept);
            one.endpoints.retain(is_kept);
            shop.services.insert("one-family".to_owned(), one);
            shop.publish()?;
            apply(shop, &route("[{name: one-family, port: 80}]"))?;
            for target in WEB {
                let pods = by_pod(shop, &Load::fresh(Version::Http1, target), 9)?;
                ensure!(pods == [("web-2".to_owned(), 9)].into(), "{target}: {pods:?}");
            }
        }
        Ok(())
    });
}
