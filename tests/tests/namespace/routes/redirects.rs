//! Rules that answer with a redirect.

use anyhow::ensure;
use mesh_tests::{
    client::{Load, Version},
    manifests::Port,
    shop::HTTP_PORT,
};

use super::{addresses, apply, ask, routed, service};

const ROUTE: &str = "
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: two-ports, namespace: shop}
spec:
  parentRefs: [{group: '', kind: Service, name: two-ports}]
  rules:
    - matches: [{path: {value: /nothing}}]
      filters: [{type: RequestRedirect, requestRedirect: {}}]
    - matches: [{path: {value: /scheme}}]
      filters: [{type: RequestRedirect, requestRedirect: {scheme: https}}]
    - matches: [{path: {value: /hostname}}]
      filters: [{type: RequestRedirect, requestRedirect: {hostname: other.example}}]
    - matches: [{path: {value: /full}}]
      filters: [{type: RequestRedirect, requestRedirect: {path: {type: ReplaceFullPath, replaceFullPath: /all/new}}}]
    - matches: [{path: {value: /prefix}}]
      filters: [{type: RequestRedirect, requestRedirect: {path: {type: ReplacePrefixMatch, replacePrefixMatch: /new}}}]
    - matches: [{path: {value: /port}}]
      filters: [{type: RequestRedirect, requestRedirect: {port: 8443}}]
    - matches: [{path: {value: /s301}}]
      filters: [{type: RequestRedirect, requestRedirect: {statusCode: 301}}]
    - matches: [{path: {value: /s302}}]
      filters: [{type: RequestRedirect, requestRedirect: {statusCode: 302}}]
    - matches: [{path: {value: /s303}}]
      filters: [{type: RequestRedirect, requestRedirect: {statusCode: 303}}]
    - matches: [{path: {value: /s307}}]
      filters: [{type: RequestRedirect, requestRedirect: {statusCode: 307}}]
    - matches: [{path: {value: /s308}}]
      filters: [{type: RequestRedirect, requestRedirect: {statusCode: 308}}]
    - matches: [{path: {value: /all}}]
      filters:
        - type: RequestRedirect
          requestRedirect: {scheme: https, hostname: other.example, port: 444, statusCode: 308, path: {type: ReplaceFullPath, replaceFullPath: /new}}
        - {type: ResponseHeaderModifier, responseHeaderModifier: {set: [{name: x-a, value: mesh}]}}
";

/// Asked of which port, path, and where it leads by which status.
const CASES: [(u16, &str, u16, &str); 15] = [
    (80, "/nothing?a=b", 302, "http://two-ports.shop/nothing?a=b"),
    (8081, "/nothing", 302, "http://two-ports.shop:8081/nothing"),
    (80, "/scheme/a?b=c", 302, "https://two-ports.shop/scheme/a?b=c"),
    (8081, "/scheme", 302, "https://two-ports.shop/scheme"),
    (80, "/hostname/a", 302, "http://other.example/hostname/a"),
    (80, "/full/a?b=c", 302, "http://two-ports.shop/all/new?b=c"),
    (80, "/prefix/a?b=c", 302, "http://two-ports.shop/new/a?b=c"),
    (80, "/prefix", 302, "http://two-ports.shop/new"),
    (80, "/port/a", 302, "http://two-ports.shop:8443/port/a"),
    (80, "/s301", 301, "http://two-ports.shop/s301"),
    (80, "/s302", 302, "http://two-ports.shop/s302"),
    (80, "/s303", 303, "http://two-ports.shop/s303"),
    (80, "/s307", 307, "http://two-ports.shop/s307"),
    (80, "/s308", 308, "http://two-ports.shop/s308"),
    (80, "/all/a", 308, "https://other.example:444/new"),
];

#[test]
fn each_field_of_a_redirect_changes_where_it_leads() {
    routed(|shop| {
        let mut two_ports = service(shop, "two-ports", 1, &["web-1"])?;
        two_ports.ports.push(Port::new("other", 8081, HTTP_PORT));
        shop.services.insert("two-ports".to_owned(), two_ports);
        shop.publish()?;
        apply(shop, ROUTE)?;
        for (port, path, status, location) in CASES {
            for ip in addresses(1) {
                for version in [Version::Http1, Version::Http2] {
                    let mut load = Load::fresh(version, (ip, port).into()).path(path);
                    load.authority = Some("two-ports.shop".to_owned());
                    let answer = ask(shop, &load)?;
                    ensure!(
                        answer.status == status && answer.header("location") == location,
                        "{load:?}: not {status} {location}: {answer:?}"
                    );
                    ensure!(answer.body.is_empty(), "{answer:?}");
                    let own = if path.starts_with("/all") { "mesh" } else { "" };
                    ensure!(answer.header("x-a") == own, "{answer:?}");
                }
            }
        }
        Ok(())
    });
}
