//! What rules and backends change of requests and of their answers.

use anyhow::{Context as _, Result, ensure};
use mesh_tests::{
    client::{Load, Version},
    shop::Shop,
};
use serde_json::Value;

use super::{WEB, add_service, apply, ask, each_way, echoed, routed};

const HEADERS: &str = "
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: web, namespace: shop}
spec:
  parentRefs: [{group: '', kind: Service, name: web}]
  rules:
    - matches: [{path: {value: /set}}]
      filters:
        - {type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: X-A, value: mesh}]}}
        - {type: ResponseHeaderModifier, responseHeaderModifier: {set: [{name: X-A, value: mesh}]}}
      backendRefs: &web [{name: web, port: 80}]
    - matches: [{path: {value: /add}}]
      filters:
        - {type: RequestHeaderModifier, requestHeaderModifier: {add: [{name: X-A, value: mesh}]}}
        - {type: ResponseHeaderModifier, responseHeaderModifier: {add: [{name: X-A, value: mesh}]}}
      backendRefs: *web
    - matches: [{path: {value: /remove}}]
      filters:
        - {type: RequestHeaderModifier, requestHeaderModifier: {remove: [X-A]}}
        - {type: ResponseHeaderModifier, responseHeaderModifier: {remove: [X-A]}}
      backendRefs: *web
    - matches: [{path: {value: /weft.test.Echo}}]
      filters:
        # the server answers with the headers that the request asks for
        - type: RequestHeaderModifier
          requestHeaderModifier: {set: [{name: answer-x-a, value: asked-by-mesh}], add: [{name: answer-x-b, value: two}], remove: [answer-x-c]}
        - type: ResponseHeaderModifier
          responseHeaderModifier: {set: [{name: x-d, value: mesh}], add: [{name: x-b, value: three}], remove: [x-e]}
      backendRefs: *web
";

/// What stands in a header of the request as the server got it; nothing if it is not there.
fn arrived(echoed: &Value, name: &str) -> String {
    echoed["headers"][name].as_str().unwrap_or_default().to_owned()
}

/// All values of an answer's header.
fn values(answer: &mesh_tests::client::Answer, name: &str) -> String {
    let values = answer.headers.get_all(name).iter();
    let values: Vec<_> = values.map(|value| String::from_utf8_lossy(value.as_bytes())).collect();
    values.join(",")
}

#[test]
fn headers_are_set_added_and_removed() {
    routed(|shop| {
        apply(shop, HEADERS)?;
        for (path, without, with) in [
            ("/set", "mesh", "mesh"),
            ("/add", "mesh", "own,mesh"),
            ("/remove", "", ""),
        ] {
            for load in each_way(WEB, path) {
                let found = arrived(&echoed(shop, load.clone())?, "x-a");
                ensure!(found == without, "{load:?}: the server got {found:?}");
                let found = arrived(&echoed(shop, load.clone().header("x-a", "own"))?, "x-a");
                ensure!(found == with, "{load:?}: the server got {found:?}");
                let found = values(&ask(shop, &load)?, "x-a");
                ensure!(found == without, "{load:?}: the client got {found:?}");
                let found = values(&ask(shop, &load.clone().header("answer-x-a", "own"))?, "x-a");
                ensure!(found == with, "{load:?}: the client got {found:?}");
            }
        }
        Ok(())
    });
}

#[test]
fn headers_of_grpc_calls_are_changed_alike() {
    routed(|shop| {
        apply(shop, HEADERS)?;
        for target in WEB {
            let asked = ["answer-x-a", "answer-x-b", "answer-x-c", "answer-x-d", "answer-x-e"];
            let call = asked
                .iter()
                .fold(Load::grpc(target), |call, name| call.header(name, "one"));
            let answer = ask(shop, &call)?;
            ensure!(answer.grpc_status() == Some(0), "{answer:?}");
            for (name, expected) in [
                ("x-a", "asked-by-mesh"),
                ("x-b", "one,two,three"),
                ("x-c", ""),
                ("x-d", "mesh"),
                ("x-e", ""),
            ] {
                ensure!(
                    values(&answer, name) == expected,
                    "{name}: not {expected:?}: {answer:?}"
                );
            }
        }
        Ok(())
    });
}

const REWRITES: &str = "
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: web, namespace: shop}
spec:
  parentRefs: [{group: '', kind: Service, name: web}]
  rules:
    - matches: [{path: {value: /host}}]
      filters: [{type: URLRewrite, urlRewrite: {hostname: other.example}}]
      backendRefs: &web [{name: web, port: 80}]
    - matches: [{path: {value: /full}}]
      filters: [{type: URLRewrite, urlRewrite: {path: {type: ReplaceFullPath, replaceFullPath: /all/new}}}]
      backendRefs: *web
    - matches: [{path: {value: /prefix/old}}]
      filters: [{type: URLRewrite, urlRewrite: {path: {type: ReplacePrefixMatch, replacePrefixMatch: /new/}}}]
      backendRefs: *web
    - matches: [{path: {value: /gone}}]
      filters: [{type: URLRewrite, urlRewrite: {path: {type: ReplacePrefixMatch, replacePrefixMatch: /}}}]
      backendRefs: *web
    - matches: [{path: {value: /both}}]
      filters: [{type: URLRewrite, urlRewrite: {hostname: other.example, path: {type: ReplaceFullPath, replaceFullPath: /new}}}]
      backendRefs: *web
";

/// Host and path that the server was asked for.
fn url(echoed: &Value) -> Result<(String, String)> {
    let uri: hyper::Uri = echoed["uri"].as_str().context("the server says no URI")?.parse()?;
    let host = uri.authority().map(ToString::to_string);
    let path = uri.path_and_query().map(ToString::to_string);
    Ok((
        host.unwrap_or_else(|| arrived(echoed, "host")),
        path.unwrap_or_default(),
    ))
}

#[test]
fn host_and_path_are_rewritten() {
    routed(|shop| {
        apply(shop, REWRITES)?;
        for (path, host, expected) in [
            ("/host/a?b=c", "other.example", "/host/a?b=c"),
            ("/full/a?b=c", "web.shop", "/all/new?b=c"),
            ("/prefix/old", "web.shop", "/new"),
            ("/prefix/old/", "web.shop", "/new/"),
            ("/prefix/old/a?b=c", "web.shop", "/new/a?b=c"),
            ("/gone", "web.shop", "/"),
            ("/gone/a", "web.shop", "/a"),
            ("/both/a", "other.example", "/new"),
        ] {
            for mut load in each_way(WEB, path) {
                load.authority = Some("web.shop".to_owned());
                let (seen_host, seen) = url(&echoed(shop, load.clone())?)?;
                ensure!(
                    seen_host == host && seen == expected,
                    "{load:?}: not {host}{expected}, but {seen_host}{seen}"
                );
            }
        }
        Ok(())
    });
}

const BACKENDS: &str = "
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: web, namespace: shop}
spec:
  parentRefs: [{group: '', kind: Service, name: web}]
  rules:
    - filters:
        - {type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: x-a, value: rule}, {name: x-gone, value: rule}]}}
        - {type: ResponseHeaderModifier, responseHeaderModifier: {set: [{name: x-a, value: rule}]}}
      backendRefs:
        - name: one
          port: 80
          filters:
            - {type: RequestHeaderModifier, requestHeaderModifier: {add: [{name: x-a, value: web-1}], remove: [x-gone]}}
            - {type: ResponseHeaderModifier, responseHeaderModifier: {add: [{name: x-a, value: web-1}]}}
            - {type: URLRewrite, urlRewrite: {hostname: one.example, path: {type: ReplacePrefixMatch, replacePrefixMatch: /one}}}
        - {name: two, port: 80}
";

/// Requests after which both of two equal backends were met, but for one time in 2^39.
const BOTH_MET: usize = 40;

/// One answer through [`BACKENDS`]: whose it was.
fn through_backend(shop: &Shop, load: &Load) -> Result<String> {
    let answer = ask(shop, &load.clone().header("x-echo", "1").header("x-gone", "own"))?;
    let echoed = answer.echoed()?;
    let pod = echoed["pod"].as_str().unwrap_or_default().to_owned();
    let seen = (
        arrived(&echoed, "x-a"),
        arrived(&echoed, "x-gone"),
        values(&answer, "x-a"),
        url(&echoed)?,
    );
    let url = |host: &str, path: &str| (host.to_owned(), path.to_owned());
    let changed = |x_a: &str, gone: &str, url| (x_a.to_owned(), gone.to_owned(), x_a.to_owned(), url);
    let expected = match pod.as_str() {
        "web-1" => changed("rule,web-1", "", url("one.example", "/one/path")),
        _ => changed("rule", "rule", url("web.shop", "/path")),
    };
    ensure!(seen == expected, "{pod}: {seen:?} is not {expected:?}");
    Ok(pod)
}

#[test]
fn a_backends_filters_hold_for_its_share_after_those_of_the_rule() {
    routed(|shop| {
        add_service(shop, "one", 1, &["web-1"])?;
        add_service(shop, "two", 2, &["web-2"])?;
        apply(shop, BACKENDS)?;
        for version in [Version::Http1, Version::Http2] {
            let mut load = Load::fresh(version, WEB[0]).path("/path");
            load.authority = Some("web.shop".to_owned());
            let mut met = std::collections::BTreeSet::new();
            for _ in 0..BOTH_MET {
                met.insert(through_backend(shop, &load)?);
            }
            ensure!(met.len() == 2, "only {met:?}");
        }
        Ok(())
    });
}
