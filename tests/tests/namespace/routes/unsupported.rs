//! Rules that cannot be applied: their requests are refused and fall to no other rule; a route that has no other does not attach.

use anyhow::ensure;
use mesh_tests::client::{Load, Version};

use super::{RULE, WEB, apply, ask, refused_each_way, routed};

const PARTLY: &str = "
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: web, namespace: shop}
spec:
  parentRefs: [{group: '', kind: Service, name: web}]
  rules:
    - matches: [{path: {value: /mirror}}]
      filters: [{type: RequestMirror, requestMirror: {backendRef: {name: web, port: 80}}}]
      backendRefs: &web [{name: web, port: 80}]
    - matches: [{path: {value: /future}}]
      filters: [{type: FromTheFuture}]
      backendRefs: *web
    - matches: [{path: {value: /session}}]
      sessionPersistence: {sessionName: a}
      backendRefs: *web
    - matches: [{path: {value: /incompatible}}]
      filters: [{type: RequestRedirect, requestRedirect: {}}, {type: URLRewrite, urlRewrite: {hostname: a.example}}]
    - matches: [{path: {value: /backend}}]
      backendRefs: [{name: web, port: 80, filters: [{type: CORS, cors: {}}]}]
    - matches: [{path: {type: Exact, value: /pattern}}, {path: {type: RegularExpression, value: '/(pattern'}}]
      backendRefs: *web
    - matches:
        - path: {type: Exact, value: /large}
        - headers: [{name: x-tag, type: RegularExpression, value: '(?:(?:[ab]{1,40}){1,40})*c'}]
      backendRefs: *web
    - matches: [{path: {value: /}}]
      filters: [{type: ResponseHeaderModifier, responseHeaderModifier: {set: [{name: x-rule, value: rest}]}}]
      backendRefs: *web
";

#[test]
fn a_rule_that_cannot_be_applied_keeps_its_requests_and_the_others_serve() {
    routed(|shop| {
        apply(shop, PARTLY)?;
        for path in [
            "/mirror",
            "/future",
            "/session",
            "/incompatible",
            "/backend",
            "/pattern",
            "/large",
        ] {
            refused_each_way(shop, WEB, path, (500, 2), "route_unsupported")?;
        }
        for target in WEB {
            for version in [Version::Http1, Version::Http2] {
                let answer = ask(shop, &Load::fresh(version, target).path("/elsewhere"))?;
                ensure!(answer.status == 200 && answer.header(RULE) == "rest", "{answer:?}");
            }
            let answer = ask(shop, &Load::grpc(target))?;
            ensure!(
                answer.grpc_status() == Some(0) && answer.header(RULE) == "rest",
                "{answer:?}"
            );
        }
        Ok(())
    });
}

const WHOLLY: &str = "
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: web, namespace: shop}
spec:
  parentRefs: [{group: '', kind: Service, name: web}]
  rules:
    - matches: [{path: {value: /mirror}}]
      filters: [{type: RequestMirror, requestMirror: {backendRef: {name: web, port: 80}}}]
      backendRefs: [{name: web, port: 80}]
";

#[test]
fn a_route_of_such_rules_alone_does_not_attach() {
    routed(|shop| {
        // a route that held is gone when it comes to hold nothing
        for yaml in [PARTLY, WHOLLY] {
            apply(shop, yaml)?;
        }
        for target in WEB {
            for path in ["/mirror", "/elsewhere"] {
                for version in [Version::Http1, Version::Http2] {
                    let answer = ask(shop, &Load::fresh(version, target).path(path))?;
                    ensure!(
                        answer.status == 200 && answer.header(RULE).is_empty(),
                        "{path}: {answer:?}"
                    );
                }
            }
        }
        Ok(())
    });
}

/// The patterns of these rules read 2.4 MB of a tag of 300 kB.
fn tagged() -> String {
    let matches: String = (0..8)
        .map(|number| {
            format!("        - headers: [{{name: x-tag, type: RegularExpression, value: '[ab]*{number}'}}]\n")
        })
        .collect();
    format!(
        "
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{name: web, namespace: shop}}
spec:
  parentRefs: [{{group: '', kind: Service, name: web}}]
  rules:
    - matches:
{matches}      backendRefs: &web [{{name: web, port: 80}}]
    - matches: [{{path: {{value: /}}}}]
      filters: [{{type: ResponseHeaderModifier, responseHeaderModifier: {{set: [{{name: x-rule, value: rest}}]}}}}]
      backendRefs: *web
"
    )
}

#[test]
fn a_request_that_regular_expressions_would_read_for_too_long_falls_to_no_other_rule() {
    routed(|shop| {
        apply(shop, &tagged())?;
        for target in WEB {
            for (tag, status, rule) in [("ab", 200, "rest"), ("ab7", 200, ""), (&"ab".repeat(150_000), 500, "")] {
                let answer = ask(shop, &Load::fresh(Version::Http1, target).header("x-tag", tag))?;
                ensure!(
                    answer.status == status && answer.header(RULE) == rule,
                    "{} bytes: {answer:?}",
                    tag.len()
                );
            }
        }
        Ok(())
    });
}
