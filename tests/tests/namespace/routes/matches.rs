//! Which rule a request meets, by each field of a match.

use std::io::{Read as _, Write as _};

use anyhow::{Context as _, Result, ensure};
use hyper::Method;
use mesh_tests::{
    client::{Load, Version},
    shop::Shop,
    tcp,
};
use serde_json::Value;

use super::{RULE, WEB, apply, ask, echoed, refused, refused_call, routed};

const ROUTE: &str = "
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: web, namespace: shop}
spec:
  parentRefs: [{group: '', kind: Service, name: web}]
  rules:
    - matches: [{path: {type: Exact, value: /exact}}]
      filters: [{type: ResponseHeaderModifier, responseHeaderModifier: {set: [{name: x-rule, value: exact}]}}]
      backendRefs: &web [{name: web, port: 80}]
    - matches: [{path: {type: PathPrefix, value: /prefix}}]
      filters: [{type: ResponseHeaderModifier, responseHeaderModifier: {set: [{name: x-rule, value: prefix}]}}]
      backendRefs: *web
    - matches: [{path: {type: RegularExpression, value: '/items/[0-9]+'}}]
      filters: [{type: ResponseHeaderModifier, responseHeaderModifier: {set: [{name: x-rule, value: pattern}]}}]
      backendRefs: *web
    - matches: [{path: {value: /header}, headers: [{name: X-Kind, value: one}]}]
      filters: [{type: ResponseHeaderModifier, responseHeaderModifier: {set: [{name: x-rule, value: header}]}}]
      backendRefs: *web
    - matches: [{path: {value: /header}, headers: [{type: RegularExpression, name: x-kind, value: 't(wo|en)'}]}]
      filters: [{type: ResponseHeaderModifier, responseHeaderModifier: {set: [{name: x-rule, value: header-pattern}]}}]
      backendRefs: *web
    - matches: [{path: {value: /query}, queryParams: [{name: kind, value: one}]}]
      filters: [{type: ResponseHeaderModifier, responseHeaderModifier: {set: [{name: x-rule, value: query}]}}]
      backendRefs: *web
    - matches: [{path: {value: /query}, queryParams: [{type: RegularExpression, name: kind, value: '[0-9]{2}'}]}]
      filters: [{type: ResponseHeaderModifier, responseHeaderModifier: {set: [{name: x-rule, value: query-pattern}]}}]
      backendRefs: *web
    - matches: [{path: {value: /method}, method: POST}]
      filters: [{type: ResponseHeaderModifier, responseHeaderModifier: {set: [{name: x-rule, value: method}]}}]
      backendRefs: *web
    - matches: [{path: {value: /all}, method: PUT, headers: [{name: x-kind, value: one}], queryParams: [{name: kind, value: two}]}]
      filters: [{type: ResponseHeaderModifier, responseHeaderModifier: {set: [{name: x-rule, value: all}]}}]
      backendRefs: *web
    - matches: [{path: {type: Exact, value: /this}}, {path: {type: Exact, value: /that}}]
      filters: [{type: ResponseHeaderModifier, responseHeaderModifier: {set: [{name: x-rule, value: any}]}}]
      backendRefs: *web
    - matches: [{path: {value: /weft.test.Echo}, headers: [{name: x-kind, value: one}]}]
      filters: [{type: ResponseHeaderModifier, responseHeaderModifier: {set: [{name: x-rule, value: call}]}}]
      backendRefs: *web
";

/// Method, path, `x-kind`, and which rule it meets: none for 404.
type Case = (Method, &'static str, Option<&'static str>, Option<&'static str>);

const PATHS: [Case; 16] = [
    (Method::GET, "/exact", None, Some("exact")),
    (Method::GET, "/exact?a=1", None, Some("exact")),
    (Method::GET, "/exact/", None, None),
    (Method::GET, "/exact/more", None, None),
    (Method::GET, "/Exact", None, None),
    (Method::GET, "/prefix", None, Some("prefix")),
    (Method::GET, "/prefix/", None, Some("prefix")),
    (Method::GET, "/prefix/more?a=1", None, Some("prefix")),
    (Method::GET, "/prefixed", None, None),
    (Method::GET, "/items/12", None, Some("pattern")),
    (Method::GET, "/items/12?a=1", None, Some("pattern")),
    (Method::GET, "/items/12/more", None, None),
    (Method::GET, "/more/items/12", None, None),
    (Method::GET, "/this", None, Some("any")),
    (Method::GET, "/that", None, Some("any")),
    (Method::GET, "/", None, None),
];

const OTHERS: [Case; 21] = [
    (Method::GET, "/header", Some("one"), Some("header")),
    (Method::GET, "/header", Some("One"), None),
    (Method::GET, "/header", Some("two"), Some("header-pattern")),
    (Method::GET, "/header", Some("ten"), Some("header-pattern")),
    (Method::GET, "/header", Some("twofold"), None),
    (Method::GET, "/header", None, None),
    (Method::GET, "/query?kind=one", None, Some("query")),
    (Method::GET, "/query?other=1&kind=one", None, Some("query")),
    (Method::GET, "/query?kind=o%6Ee", None, Some("query")),
    (Method::GET, "/query?kind=One", None, None),
    (Method::GET, "/query?kind=42", None, Some("query-pattern")),
    (Method::GET, "/query?kind=421", None, None),
    (Method::GET, "/query?Kind=one", None, None),
    (Method::GET, "/query", None, None),
    (Method::POST, "/method", None, Some("method")),
    (Method::PUT, "/method", None, None),
    (Method::GET, "/method", None, None),
    (Method::PUT, "/all?kind=two", Some("one"), Some("all")),
    (Method::POST, "/all?kind=two", Some("one"), None),
    (Method::PUT, "/all?kind=one", Some("one"), None),
    (Method::PUT, "/all?kind=two", Some("two"), None),
];

fn met(shop: &Shop, version: Version, case: &Case) -> Result<()> {
    let (method, path, kind, expected) = case;
    for target in WEB {
        let load = Load::fresh(version, target).path(path).method(method.clone());
        let load = kind.iter().fold(load, |load, kind| load.header("x-kind", kind));
        match expected {
            None => refused(shop, &load, 404, "no_route")?,
            Some(expected) => {
                let answer = ask(shop, &load)?;
                ensure!(
                    answer.status == 200 && answer.header(RULE) == *expected,
                    "{load:?}: {answer:?}"
                );
            }
        }
    }
    Ok(())
}

#[test]
fn each_field_of_a_match_tells_requests_apart() {
    routed(|shop| {
        apply(shop, ROUTE)?;
        for version in [Version::Http1, Version::Http2] {
            PATHS
                .iter()
                .chain(&OTHERS)
                .try_for_each(|case| met(shop, version, case))?;
        }
        for target in WEB {
            let call = Load::grpc(target);
            let answer = ask(shop, &call.clone().header("x-kind", "one"))?;
            ensure!(
                answer.grpc_status() == Some(0) && answer.header(RULE) == "call",
                "{answer:?}"
            );
            refused_call(shop, &call, 12, "no_route")?;
            refused_call(
                shop,
                &call.path("/weft.test.Other/Say").header("x-kind", "one"),
                12,
                "no_route",
            )?;
        }
        Ok(())
    });
}

#[test]
fn hostnames_are_ignored() {
    routed(|shop| {
        apply(
            shop,
            "
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: web, namespace: shop}
spec:
  hostnames: [only.example]
  parentRefs: [{group: '', kind: Service, name: web}]
  rules:
    - matches: [{path: {type: PathPrefix, value: /here}}]
      filters: [{type: ResponseHeaderModifier, responseHeaderModifier: {set: [{name: x-rule, value: here}]}}]
      backendRefs: [{name: web, port: 80}]
",
        )?;
        for host in ["only.example", "other.example"] {
            for version in [Version::Http1, Version::Http2] {
                let load = Load {
                    authority: Some(host.to_owned()),
                    ..Load::fresh(version, WEB[0])
                };
                let answer = ask(shop, &load.clone().path("/here"))?;
                ensure!(answer.header(RULE) == "here", "{host}: {answer:?}");
                refused(shop, &load.path("/elsewhere"), 404, "no_route")?;
            }
        }
        Ok(())
    });
}

/// What an absolute target is answered whose authority differs from `Host`.
fn ask_absolute(shop: &Shop, authority: &str, host: &str) -> Result<String> {
    let mut stream = tcp::connect(&shop.client.netns, WEB[0])?;
    let head = format!("GET http://{authority}/ HTTP/1.1\r\nhost: {host}\r\nx-echo: 1\r\nconnection: close\r\n\r\n");
    stream.write_all(head.as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

/// Of two that differ the authority counts (RFC 9112, 3.2.2; RFC 9113, 8.3.1), for rules and server alike.
#[test]
fn the_server_sees_the_host_that_rules_are_matched_by() {
    routed(|shop| {
        apply(
            shop,
            "
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: web, namespace: shop}
spec:
  parentRefs: [{group: '', kind: Service, name: web}]
  rules: [{matches: [{headers: [{name: Host, value: web}]}], backendRefs: [{name: web, port: 80}]}]
",
        )?;
        let answer = ask_absolute(shop, "web", "evil")?;
        let (_, body) = answer.split_once("\r\n\r\n").context("an answer")?;
        let seen: Value = serde_json::from_str(body.trim()).context(answer.clone())?;
        ensure!(seen["headers"]["host"] == "web", "{seen}");
        let answer = ask_absolute(shop, "evil", "web")?;
        ensure!(answer.starts_with("HTTP/1.1 404 "), "{answer}");
        let load = |authority: &str, host| Load {
            authority: Some(authority.to_owned()),
            ..Load::fresh(Version::Http2, WEB[0]).header("host", host)
        };
        let seen = echoed(shop, load("web", "evil"))?;
        ensure!(seen["headers"].get("host").is_none_or(|host| host == "web"), "{seen}");
        refused(shop, &load("evil", "web"), 404, "no_route")
    });
}
