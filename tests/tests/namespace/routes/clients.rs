//! Whose requests a route holds for: routes of the Service's namespace for all clients, those of another for the clients of that one alone.

use anyhow::{Result, ensure};
use mesh_tests::{
    announce::Announce as _,
    bench::{Netns, wait_for},
    client::{Load, Version},
    daemon::HANG_GUARD,
    shop::Shop,
};

use super::{RULE, WEB, apply, ask_from, routed, settle};

/// The namespace of the other client.
const AWAY: &str = "away";

/// A route of Service `shop/web` that takes `/NAMESPACE` and `/both`.
fn route(namespace: &str) -> String {
    format!(
        "
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{name: web, namespace: {namespace}}}
spec:
  parentRefs: [{{group: '', kind: Service, name: web, namespace: shop}}]
  rules:
    - matches: [{{path: {{value: /{namespace}}}}}, {{path: {{value: /both}}}}]
      filters: [{{type: ResponseHeaderModifier, responseHeaderModifier: {{set: [{{name: x-rule, value: {namespace}}}]}}}}]
      backendRefs: [{{name: web, namespace: shop, port: 80}}]
"
    )
}

/// A captured client of the other namespace, on the shop's client's node.
fn other_client(shop: &mut Shop) -> Result<Netns> {
    shop.objects.namespace(AWAY, Some("enabled"))?;
    let pod = shop.bench.add_pod(0, "consumer")?;
    let mut manifest = shop.pod_manifest(&pod);
    AWAY.clone_into(&mut manifest.namespace);
    shop.objects.pod(&manifest)?;
    wait_for("the other client's capture", HANG_GUARD, || {
        let ask = || ask_from(&pod.netns, &Load::fresh(Version::Http1, WEB[0]));
        let (_, connections) = crate::counting(shop, ask)?;
        Ok((connections > 0).then_some(()))
    })?;
    Ok(pod.netns)
}

/// What a client meets at `/shop`, `/away` and `/both`: a rule's name, nothing if no route is there, 404 otherwise.
fn met(client: &Netns, expected: [&str; 3]) -> Result<()> {
    for (path, expected) in ["/shop", "/away", "/both"].into_iter().zip(expected) {
        for target in WEB {
            for version in [Version::Http1, Version::Http2] {
                let answer = ask_from(client, &Load::fresh(version, target).path(path))?;
                let found = match answer.status {
                    200 => answer.header(RULE).to_owned(),
                    status => status.to_string(),
                };
                ensure!(
                    found == expected,
                    "{} asks for {path}: not {expected:?}: {answer:?}",
                    client.name()
                );
            }
        }
    }
    Ok(())
}

#[test]
fn a_consumers_route_stands_in_for_the_producers_for_its_own_clients() {
    routed(|shop| {
        let (own, other) = (shop.client.netns.clone(), other_client(shop)?);
        let (alone, none) = (["shop", "404", "shop"], ["", "", ""]);
        apply(shop, &route("shop"))?;
        met(&own, alone)?;
        met(&other, alone)?;
        apply(shop, &route(AWAY))?;
        met(&own, alone)?;
        met(&other, ["404", AWAY, AWAY])?;
        // without the producer's, the other namespace's holds for its own clients alone
        shop.objects.delete("HTTPRoute", "shop", "web")?;
        settle(shop)?;
        met(&own, none)?;
        met(&other, ["404", AWAY, AWAY])?;
        apply(shop, &route("shop"))?;
        shop.objects.delete("HTTPRoute", AWAY, "web")?;
        settle(shop)?;
        met(&own, alone)?;
        met(&other, alone)
    });
}
