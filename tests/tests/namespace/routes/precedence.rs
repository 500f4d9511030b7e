//! Which of several rules that match a request meets.

use anyhow::ensure;
use hyper::Method;
use mesh_tests::client::{Load, Version};

use super::{RULE, WEB, apply, ask, routed};

/// Rules of one route, from the weakest to the strongest.
const ONE_ROUTE: &str = "
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: web, namespace: shop}
spec:
  parentRefs: [{group: '', kind: Service, name: web}]
  rules:
    - matches: [{path: {value: /path}}]
      filters: [{type: ResponseHeaderModifier, responseHeaderModifier: {set: [{name: x-rule, value: prefix}]}}]
      backendRefs: &web [{name: web, port: 80}]
    - matches: [{path: {value: /path/longer}}]
      filters: [{type: ResponseHeaderModifier, responseHeaderModifier: {set: [{name: x-rule, value: longer-prefix}]}}]
      backendRefs: *web
    - matches: [{path: {type: RegularExpression, value: /path/longer/.+}}]
      filters: [{type: ResponseHeaderModifier, responseHeaderModifier: {set: [{name: x-rule, value: pattern}]}}]
      backendRefs: *web
    - matches: [{path: {type: RegularExpression, value: '/path/longer/[a-z]+'}}]
      filters: [{type: ResponseHeaderModifier, responseHeaderModifier: {set: [{name: x-rule, value: longer-pattern}]}}]
      backendRefs: *web
    - matches: [{path: {type: Exact, value: /path/longer/exact}}]
      filters: [{type: ResponseHeaderModifier, responseHeaderModifier: {set: [{name: x-rule, value: exact}]}}]
      backendRefs: *web
    - matches: [{path: {value: /count}}]
      filters: [{type: ResponseHeaderModifier, responseHeaderModifier: {set: [{name: x-rule, value: plain}]}}]
      backendRefs: *web
    - matches: [{path: {value: /count}, queryParams: [{name: a, value: '1'}]}]
      filters: [{type: ResponseHeaderModifier, responseHeaderModifier: {set: [{name: x-rule, value: one-query}]}}]
      backendRefs: *web
    - matches: [{path: {value: /count}, queryParams: [{name: a, value: '1'}, {name: b, value: '1'}]}]
      filters: [{type: ResponseHeaderModifier, responseHeaderModifier: {set: [{name: x-rule, value: two-queries}]}}]
      backendRefs: *web
    - matches: [{path: {value: /count}, headers: [{name: x-a, value: '1'}]}]
      filters: [{type: ResponseHeaderModifier, responseHeaderModifier: {set: [{name: x-rule, value: one-header}]}}]
      backendRefs: *web
    - matches: [{path: {value: /count}, headers: [{name: x-a, value: '1'}, {name: x-b, value: '1'}]}]
      filters: [{type: ResponseHeaderModifier, responseHeaderModifier: {set: [{name: x-rule, value: two-headers}]}}]
      backendRefs: *web
    - matches: [{path: {value: /count}, method: POST}]
      filters: [{type: ResponseHeaderModifier, responseHeaderModifier: {set: [{name: x-rule, value: method}]}}]
      backendRefs: *web
    - matches: [{path: {value: /twice}}]
      filters: [{type: ResponseHeaderModifier, responseHeaderModifier: {set: [{name: x-rule, value: first}]}}]
      backendRefs: *web
    - matches: [{path: {value: /twice}}]
      filters: [{type: ResponseHeaderModifier, responseHeaderModifier: {set: [{name: x-rule, value: second}]}}]
      backendRefs: *web
";

/// Method, path, headers, and the rule that must take it.
type Case = (Method, &'static str, &'static [&'static str], &'static str);

const CASES: [Case; 13] = [
    (Method::GET, "/path/1", &[], "prefix"),
    (Method::GET, "/path/longer", &[], "longer-prefix"),
    (Method::GET, "/path/longer/1", &[], "pattern"),
    (Method::GET, "/path/longer/a", &[], "longer-pattern"),
    (Method::GET, "/path/longer/exact", &[], "exact"),
    (Method::GET, "/count", &[], "plain"),
    (Method::GET, "/count?a=1", &[], "one-query"),
    (Method::GET, "/count?a=1&b=1", &[], "two-queries"),
    (Method::GET, "/count?a=1&b=1", &["x-a"], "one-header"),
    (Method::GET, "/count?a=1&b=1", &["x-a", "x-b"], "two-headers"),
    (Method::POST, "/count?a=1&b=1", &["x-a", "x-b"], "method"),
    (Method::POST, "/count", &[], "method"),
    (Method::GET, "/twice", &[], "first"),
];

#[test]
fn the_most_specific_rule_takes_the_request_wherever_it_stands() {
    routed(|shop| {
        apply(shop, ONE_ROUTE)?;
        for version in [Version::Http1, Version::Http2] {
            for (method, path, headers, expected) in &CASES {
                let load = Load::fresh(version, WEB[0]).path(path).method(method.clone());
                let load = headers.iter().fold(load, |load, name| load.header(name, "1"));
                let answer = ask(shop, &load)?;
                ensure!(answer.header(RULE) == *expected, "{load:?}: not {expected}: {answer:?}");
            }
        }
        Ok(())
    });
}

/// A route that takes `path`, created on this day of January.
fn route(name: &str, day: u32, path: &str) -> String {
    format!(
        "
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{name: {name}, namespace: shop, creationTimestamp: 2026-01-{day:02}T00:00:00Z}}
spec:
  parentRefs: [{{group: '', kind: Service, name: web}}]
  rules:
    - matches: [{{path: {{type: PathPrefix, value: {path}}}}}]
      filters: [{{type: ResponseHeaderModifier, responseHeaderModifier: {{set: [{{name: x-rule, value: {name}}}]}}}}]
      backendRefs: [{{name: web, port: 80}}]
"
    )
}

#[test]
fn routes_of_one_service_are_merged_and_the_older_one_wins() {
    routed(|shop| {
        let routes = [
            route("a-young", 3, "/age"),
            route("b-old", 2, "/age"),
            route("c-same", 4, "/name"),
            route("d-same", 4, "/name"),
            // a more specific rule of a younger route
            route("e-youngest", 5, "/age/longer"),
        ];
        apply(shop, &routes.join("---"))?;
        for (path, expected) in [("/age", "b-old"), ("/name", "c-same"), ("/age/longer", "e-youngest")] {
            let answer = ask(shop, &Load::fresh(Version::Http1, WEB[0]).path(path))?;
            ensure!(answer.header(RULE) == expected, "{path}: not {expected}: {answer:?}");
        }
        super::delete(shop, "b-old")?;
        let answer = ask(shop, &Load::fresh(Version::Http1, WEB[0]).path("/age"))?;
        ensure!(answer.header(RULE) == "a-young", "{answer:?}");
        Ok(())
    });
}
