//! To which addresses and ports a route is attached, and to which it is not.

use std::net::{IpAddr, SocketAddr};

use anyhow::{Result, ensure};
use mesh_tests::{
    announce::Announce as _,
    bench::wait_for,
    client::{Load, Version},
    daemon::HANG_GUARD,
    manifests::Port,
    shop::{HTTP_PORT, Shop},
};

use super::{RULE, WEB, add_service, addresses, apply, ask, at, delete, refused, refused_each_way, routed, service};

/// A route that takes `/here` at these parents, in YAML's flow style.
fn route(parents: &str) -> String {
    format!(
        "
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{name: parents, namespace: shop}}
spec:
  parentRefs: {parents}
  rules:
    - matches: [{{path: {{value: /here}}}}]
      filters: [{{type: ResponseHeaderModifier, responseHeaderModifier: {{set: [{{name: x-rule, value: here}}]}}}}]
      backendRefs: [{{name: web, port: 80}}]
"
    )
}

/// Whether this address and port is routed: then it serves `/here` by the rule and nothing else; if not, everything.
fn is_routed(shop: &Shop, target: SocketAddr) -> Result<bool> {
    let load = Load::fresh(Version::Http1, target);
    let (here, elsewhere) = (
        ask(shop, &load.clone().path("/here"))?,
        ask(shop, &load.path("/elsewhere"))?,
    );
    let statuses = (here.status, elsewhere.status, here.header(RULE));
    match statuses {
        (200, 404, "here") => Ok(true),
        (200, 200, "") => Ok(false),
        _ => anyhow::bail!("{target}: {statuses:?}"),
    }
}

#[test]
fn port_and_section_name_narrow_a_parent_and_all_its_addresses_count() {
    routed(|shop| {
        for (name, number) in [("first", 1), ("second", 2)] {
            let mut ports = service(shop, name, number, &["web-1"])?;
            ports.ports = [("a", 81), ("b", 82), ("c", 83)]
                .map(|(name, port)| Port::new(name, port, HTTP_PORT))
                .to_vec();
            shop.services.insert(name.to_owned(), ports);
        }
        shop.publish()?;
        let cases: [(&str, &[(u16, u16)]); 7] = [
            (
                "[{group: '', kind: Service, name: first}]",
                &[(1, 81), (1, 82), (1, 83)],
            ),
            ("[{group: '', kind: Service, name: first, port: 82}]", &[(1, 82)]),
            ("[{group: '', kind: Service, name: first, sectionName: c}]", &[(1, 83)]),
            (
                "[{group: '', kind: Service, name: first, sectionName: c, port: 83}]",
                &[(1, 83)],
            ),
            (
                "[{group: '', kind: Service, name: first, port: 81}, {group: '', kind: Service, name: second, sectionName: b}]",
                &[(1, 81), (2, 82)],
            ),
            (
                "[{kind: Service, group: '', name: second, namespace: shop, port: 83}, {name: first}]",
                &[(2, 83)],
            ),
            ("[{group: '', kind: Service, name: first, port: 84}]", &[]),
        ];
        for (parents, expected) in cases {
            apply(shop, &route(parents))?;
            for (number, port) in [1, 2]
                .into_iter()
                .flat_map(|number| [81, 82, 83].map(|port| (number, port)))
            {
                for ip in addresses(number) {
                    let found = is_routed(shop, SocketAddr::new(ip, port))?;
                    ensure!(
                        found == expected.contains(&(number, port)),
                        "{parents}: {ip} port {port}: routed {found}"
                    );
                }
            }
        }
        Ok(())
    });
}

#[test]
fn pod_addresses_have_no_routes_and_routes_do_not_chain() {
    routed(|shop| {
        add_service(shop, "behind", 1, &["web-2"])?;
        let to = |name: &str, backend: &str| {
            format!(
                "
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{name: {name}, namespace: shop}}
spec:
  parentRefs: [{{group: '', kind: Service, name: {name}}}]
  rules:
    - matches: [{{path: {{value: /here}}}}]
      filters: [{{type: RequestHeaderModifier, requestHeaderModifier: {{add: [{{name: answer-x-rule, value: {name}}}]}}}}]
      backendRefs: [{{name: {backend}, port: 80}}]
"
            )
        };
        apply(shop, &[to("web", "behind"), to("behind", "web")].join("---"))?;
        let load = Load::fresh(Version::Http1, WEB[0]).path("/here");
        for _ in 0..9 {
            let answer = ask(shop, &load)?;
            let rules: Vec<_> = answer.headers.get_all(RULE).iter().collect();
            ensure!(answer.text() == "web-2" && rules == ["web"], "{answer:?}");
        }
        let pod = &shop.server("web-2")?.pod;
        for ip in pod.ips() {
            let target = SocketAddr::new(ip, HTTP_PORT);
            let (answer, connections) = crate::counting(shop, || {
                ask(shop, &Load::fresh(Version::Http1, target).path("/elsewhere"))
            })?;
            ensure!(answer.status == 200 && answer.text() == "web-2", "{target}: {answer:?}");
            ensure!(connections == 1, "{target}: {connections} connections were captured");
        }
        Ok(())
    });
}

#[test]
fn a_headless_or_external_parent_has_no_routes_and_the_others_do() {
    routed(|shop| {
        shop.objects.apply(
            "
apiVersion: v1
kind: Service
metadata: {name: headless, namespace: shop}
spec: {type: ClusterIP, clusterIP: None, clusterIPs: [None], ports: [{port: 8080, protocol: TCP}]}
---
apiVersion: v1
kind: Service
metadata: {name: external, namespace: shop}
spec: {type: ExternalName, externalName: web.example, ports: [{port: 80, protocol: TCP}]}
",
        )?;
        apply(
            shop,
            &route(
                "[{group: '', kind: Service, name: headless}, {group: '', kind: Service, name: external}, {group: '', kind: Service, name: web, port: 80}]",
            ),
        )?;
        for target in WEB {
            ensure!(is_routed(shop, target)?, "{target}");
        }
        let own = SocketAddr::new(shop.server("web-1")?.pod.v4.into(), HTTP_PORT);
        let answer = ask(shop, &Load::fresh(Version::Http1, own).path("/elsewhere"))?;
        ensure!(answer.status == 200, "{answer:?}");
        Ok(())
    });
}

#[test]
fn a_routed_service_without_endpoints_of_its_own_is_captured() {
    routed(|shop| {
        add_service(shop, "hollow", 1, &[])?;
        let parents = "[{group: '', kind: Service, name: hollow}]";
        let connects = |shop: &Shop, target: SocketAddr| ask(shop, &Load::fresh(Version::Http1, target)).is_ok();
        for target in at(1) {
            ensure!(!connects(shop, target), "{target} is nobody's, and somebody answers");
        }
        apply(shop, &route(parents))?;
        for target in at(1) {
            // the kernel's tables follow the proxy's
            wait_for("the hollow service to be captured", HANG_GUARD, || {
                Ok(is_routed(shop, target)?.then_some(()))
            })?;
            let ip: IpAddr = target.ip();
            let call = Load::grpc(SocketAddr::new(ip, 80)).path("/here");
            let answer = ask(shop, &call)?;
            ensure!(
                answer.grpc_status() == Some(0) && answer.header(RULE) == "here",
                "{answer:?}"
            );
        }
        refused_each_way(shop, at(1), "/elsewhere", (404, 12), "no_route")?;
        delete(shop, "parents")?;
        for target in at(1) {
            wait_for("the hollow service to be left alone", HANG_GUARD, || {
                Ok((!connects(shop, target)).then_some(()))
            })?;
        }
        Ok(())
    });
}

#[test]
fn without_its_route_a_service_is_what_it_was() {
    routed(|shop| {
        apply(shop, &route("[{group: '', kind: Service, name: web}]"))?;
        refused(
            shop,
            &Load::fresh(Version::Http1, WEB[0]).path("/elsewhere"),
            404,
            "no_route",
        )?;
        delete(shop, "parents")?;
        for target in WEB {
            ensure!(!is_routed(shop, target)?, "{target}");
            let tally = shop.send(&Load::fresh(Version::Http1, target), 9)?;
            crate::all_answered(&tally)?;
            ensure!(tally.by_body.len() == 3, "{tally:?}");
        }
        shop.wait_captured(true)
    });
}
