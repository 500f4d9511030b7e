//! `timeouts` of a rule: before the head an answer of the mesh, after it a body that nobody can take for a whole one; none for what is upgraded.

use std::{
    io::{Read, Write},
    time::Duration,
};

use anyhow::{Result, ensure};
use hyper::Method;
use mesh_tests::{
    client::{self, AFTER_HEAD, Answer, Load, Version},
    shop::Shop,
    tcp,
};
use serde_json::{Value, json};

use super::{REASON, WEB, add_service, apply, ask, each_way, refused, routed, service, settle};
use crate::switching::{head, switching_server};

const ROUTE: &str = "
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: web, namespace: shop}
spec:
  parentRefs: [{group: '', kind: Service, name: web}]
  rules:
    - matches: [{path: {value: /request}}]
      timeouts: {request: 1s}
      backendRefs: &one [{name: one, port: 80}]
    - matches: [{path: {value: /backend}}]
      timeouts: {backendRequest: 1s}
      backendRefs: *one
    - matches: [{path: {value: /both}}]
      timeouts: {request: 30s, backendRequest: 1s}
      backendRefs: *one
    - matches: [{path: {value: /none}}]
      timeouts: {request: 0s, backendRequest: 0s}
      backendRefs: *one
    - matches: [{path: {value: /policy}}]
      backendRefs: *one
";

/// What holds where a rule says nothing.
const POLICY: &str = "
apiVersion: weft.mesh/v1alpha1
kind: TrafficPolicy
metadata: {name: web, namespace: shop}
spec:
  targetRefs: [{group: '', kind: Service, name: web}]
  timeout: {request: 300ms}
";

/// A server that is much later than the timeouts, and than a busy machine.
fn late() -> Value {
    json!({"delay_ms": 8000})
}

/// A server that sends half of its answer, and the rest much later than the timeouts.
fn late_in_the_body() -> Value {
    json!({"body_delay_ms": 8000})
}

/// The route, with all requests to one server.
fn with_route(story: impl FnOnce(&mut Shop) -> Result<()>) {
    routed(|shop| {
        add_service(shop, "one", 1, &["web-1"])?;
        apply(shop, ROUTE)?;
        story(shop)
    });
}

/// Requests to all timeouts in each version and family, gRPC calls last, asked all at once: each takes as long as its timeout.
fn each_timeout(shop: &Shop, check: impl Fn(&Load, Result<Answer>) -> Result<()> + Sync) -> Result<()> {
    let paths = ["/request", "/backend", "/both"];
    let plain = paths.iter().flat_map(|path| each_way(WEB, path));
    // `web-1` and a newline
    let sized = plain.clone().map(|load| load.header("answer-content-length", "6"));
    let calls = paths
        .iter()
        .flat_map(|path| WEB.map(|target| Load::grpc(target).path(path)));
    let loads: Vec<_> = plain.chain(sized).chain(calls).collect();
    let netns = &shop.client.netns;
    std::thread::scope(|scope| {
        let asked: Vec<_> = loads
            .iter()
            .map(|load| (load, scope.spawn(|| client::ask(netns, load))))
            .collect();
        for (load, answer) in asked {
            let answer = answer.join().map_err(|_| anyhow::anyhow!("{load:?} panicked"))?;
            check(load, answer)?;
        }
        Ok(())
    })
}

#[test]
fn before_the_head_the_mesh_answers_504() {
    with_route(|shop| {
        shop.behave("web-1", &late())?;
        each_timeout(shop, |load, answer| {
            let answer = answer?;
            let expected = match load.method {
                Method::POST => (200, Some(4)),
                _ => (504, None),
            };
            ensure!(
                (answer.status, answer.grpc_status()) == expected && answer.header(REASON) == "timeout",
                "{load:?}: {answer:?}"
            );
            Ok(())
        })
    });
}

#[test]
fn a_timeout_of_0_is_none_also_where_a_policy_has_one() {
    with_route(|shop| {
        apply(shop, POLICY)?;
        // later than the policy's, and no later than needed
        shop.behave("web-1", &json!({"delay_ms": 1000}))?;
        let load = Load::fresh(Version::Http1, WEB[0]);
        refused(shop, &load.clone().path("/policy"), 504, "timeout")?;
        let answer = ask(shop, &load.path("/none"))?;
        ensure!(answer.status == 200 && answer.text() == "web-1", "{answer:?}");
        Ok(())
    });
}

#[test]
fn after_the_head_the_body_is_visibly_cut() {
    with_route(|shop| {
        shop.behave("web-1", &late_in_the_body())?;
        each_timeout(shop, |load, answer| match answer {
            Err(error) if error.to_string() == format!("{AFTER_HEAD} 200 OK") => Ok(()),
            other => anyhow::bail!("{load:?}: {other:?}"),
        })
    });
}

/// All that comes of one request of HTTP/1.1, and whether the connection then ended in order.
fn raw(shop: &Shop, path: &str, header: &str) -> Result<(String, bool)> {
    let mut stream = tcp::connect(&shop.client.netns, WEB[0])?;
    stream.write_all(format!("GET {path} HTTP/1.1\r\nhost: web\r\n{header}\r\n").as_bytes())?;
    let (mut all, mut buffer) = (Vec::new(), [0; 4096]);
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return Ok((String::from_utf8_lossy(&all).into_owned(), true)),
            Ok(count) => all.extend_from_slice(&buffer[..count]),
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => {
                return Ok((String::from_utf8_lossy(&all).into_owned(), false));
            }
            Err(error) => return Err(error.into()),
        }
    }
}

#[test]
fn a_cut_body_of_http_1_ends_without_its_last_chunk_or_short_and_by_a_reset() {
    with_route(|shop| {
        shop.behave("web-1", &late_in_the_body())?;
        for (header, framing) in [
            ("", "transfer-encoding: chunked"),
            ("answer-content-length: 6\r\n", "content-length: 6"),
        ] {
            let (text, in_order) = raw(shop, "/request", header)?;
            ensure!(
                text.starts_with("HTTP/1.1 200 OK\r\n") && text.contains(framing),
                "{text:?}"
            );
            let (_, body) = text.split_once("\r\n\r\n").unwrap_or_default();
            ensure!(body.contains("web") && !body.contains("-1"), "{text:?}");
            ensure!(!body.contains("0\r\n\r\n"), "{text:?}");
            ensure!(!in_order, "the connection of {text:?} ended in order");
        }
        Ok(())
    });
}

/// Where [`switching_server`] listens.
const SWITCH_PORT: u16 = 8091;

#[test]
fn an_upgraded_connection_has_no_timeout() {
    with_route(|shop| {
        let server = switching_server(&shop.server("web-1")?.pod.netns, SWITCH_PORT, 1)?;
        let mut one = service(shop, "one", 1, &["web-1"])?;
        one.ports[0].target = SWITCH_PORT;
        shop.services.insert("one".to_owned(), one);
        shop.publish()?;
        settle(shop)?;
        let mut stream = tcp::connect(&shop.client.netns, WEB[0])?;
        stream.write_all(b"GET /both HTTP/1.1\r\nhost: web\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n")?;
        let head = head(&mut stream)?;
        ensure!(head.starts_with("HTTP/1.1 101 "), "{head:?}");
        ensure!(tcp::echo(&mut stream, b"before")? == b"before");
        // longer than the rule's timeout
        stream.set_read_timeout(Some(Duration::from_secs(2)))?;
        let end = tcp::read_to_end(&mut stream)?;
        ensure!(end == tcp::End::Silent, "{end:?}");
        stream.set_read_timeout(Some(tcp::TIMEOUT))?;
        ensure!(tcp::echo(&mut stream, b"after")? == b"after");
        drop(stream);
        server.join().map_err(|_| anyhow::anyhow!("the server panicked"))??;
        Ok(())
    });
}
