//! Requests that a route leads to nobody.

use anyhow::{Result, ensure};
use hyper::Method;
use mesh_tests::{
    announce::Announce as _,
    client::{Load, Version},
    shop::Shop,
};

use super::{REASON, WEB, add_service, apply, ask, each_way, refused_each_way, routed};

/// Answers from which a share of a half is judged.
const ANSWERS: u32 = 200;
/// How far off a half they may be: by more in less than 1 of a million runs (binomial distribution, p = 0.5).
const OFF_MAX: u32 = 35;

const ROUTE: &str = "
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: web, namespace: shop}
spec:
  parentRefs: [{group: '', kind: Service, name: web}]
  rules:
    - matches: [{path: {value: /missing}}]
      backendRefs: [{name: missing, port: 80}]
    - matches: [{path: {value: /no-such-port}}]
      backendRefs: [{name: web, port: 82}]
    - matches: [{path: {value: /no-port}}]
      backendRefs: [{name: web}]
    - matches: [{path: {value: /kind}}]
      backendRefs: [{group: example.org, kind: Bucket, name: web, port: 80}]
    - matches: [{path: {value: /external}}]
      backendRefs: [{name: external, port: 80}]
    - matches: [{path: {value: /none}}]
    - matches: [{path: {value: /weightless}}]
      backendRefs: [{name: web, port: 80, weight: 0}, {name: missing, port: 80, weight: 0}]
    - matches: [{path: {value: /empty}}]
      backendRefs: [{name: empty, port: 80}]
    - matches: [{path: {value: /half}}]
      backendRefs: [{name: web, port: 80}, {name: missing, port: 80}]
    - matches: [{path: {value: /half-empty}}]
      backendRefs: [{name: web, port: 80}, {name: empty, port: 80}]
    - matches: [{path: {value: /well}}]
      backendRefs: [{name: web, port: 80}]
";

const EXTERNAL: &str = "
apiVersion: v1
kind: Service
metadata: {name: external, namespace: shop}
spec: {type: ExternalName, externalName: web.example, ports: [{port: 80, protocol: TCP}]}
";

/// Grpc-status for the HTTP statuses of the mesh's own answers (`http-grpc-status-mapping.md` of the gRPC project).
const CASES: [(&str, (u16, u8), &str); 8] = [
    ("/missing", (500, 2), "backend_unresolved"),
    ("/no-such-port", (500, 2), "backend_unresolved"),
    ("/no-port", (500, 2), "backend_unresolved"),
    ("/kind", (500, 2), "backend_unresolved"),
    ("/external", (500, 2), "backend_unresolved"),
    ("/none", (500, 2), "route_no_backend"),
    ("/weightless", (500, 2), "route_no_weight"),
    ("/empty", (503, 14), "no_endpoint"),
];

#[test]
fn each_way_to_nobody_has_its_answer() {
    routed(|shop| {
        shop.objects.apply(EXTERNAL)?;
        add_service(shop, "empty", 1, &[])?;
        apply(shop, ROUTE)?;
        for (path, how, reason) in CASES {
            refused_each_way(shop, WEB, path, how, reason)?;
        }
        refused_each_way(shop, WEB, "/elsewhere", (404, 12), "no_route")?;
        crate::all_answered(&shop.send(&Load::fresh(Version::Http1, WEB[0]).path("/well"), 9)?)?;
        half(shop, "/half", 500, "backend_unresolved")?;
        half(shop, "/half-empty", 503, "no_endpoint")
    });
}

/// One of two equal backends cannot be had: its share is answered so, the other's is served.
fn half(shop: &Shop, path: &str, status: u16, reason: &str) -> Result<()> {
    let load = Load::fresh(Version::Http1, WEB[0]).path(path);
    let mut refused = 0;
    for _ in 0..ANSWERS {
        let answer = ask(shop, &load)?;
        match answer.status {
            200 => {}
            _ if answer.status == status && answer.header(REASON) == reason => refused += 1,
            _ => anyhow::bail!("{path}: {answer:?}"),
        }
    }
    ensure!(
        (ANSWERS / 2).abs_diff(refused) <= OFF_MAX,
        "{path}: {refused} of {ANSWERS} were refused"
    );
    Ok(())
}

/// A body that neither buffers nor windows on the way take in whole.
const LARGE_BYTES: usize = 8 << 20;

#[test]
fn an_answer_of_the_mesh_arrives_while_the_client_still_sends() {
    routed(|shop| {
        apply(shop, ROUTE)?;
        for (path, status, reason) in [("/elsewhere", 404, "no_route"), ("/none", 500, "route_no_backend")] {
            for load in each_way(WEB, path) {
                let load = load.method(Method::POST).body(vec![b'a'; LARGE_BYTES]);
                for _ in 0..3 {
                    let answer = ask(shop, &load).map_err(|error| error.root_cause().to_string());
                    let found = answer.as_ref().map(|answer| (answer.status, answer.header(REASON)));
                    ensure!(
                        found == Ok((status, reason)),
                        "{path} over {:?} to {}: {found:?}",
                        load.version,
                        load.target
                    );
                }
            }
        }
        Ok(())
    });
}
