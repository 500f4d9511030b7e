//! What people see: `routes`, `endpoints`, `policy`, the metrics of routing and breaking, and the access log, of one world.

use anyhow::{Context as _, Result, ensure};
use mesh_tests::{
    announce::Announce as _,
    bench::{Options, wait_for},
    client::{self, Load, Version},
    daemon::{Daemon, DaemonOptions, HANG_GUARD},
    shop::{ECHO_PORT, SERVICE_V4, Shop, WEB4, to_count},
    tcp,
};
use serde_json::{Value, json};

use crate::tell;

const ROUTE: &str = "
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: web, namespace: shop, generation: 3}
spec:
  parentRefs: [{group: '', kind: Service, name: web, port: 80}]
  rules:
    - name: cart
      matches: [{path: {type: PathPrefix, value: /cart}, method: GET, headers: [{name: x-user, value: premium}]}]
      timeouts: {request: 2s}
      backendRefs: [{name: web, port: 80}]
    - matches: [{path: {type: PathPrefix, value: /gone}}]
      backendRefs: [{name: gone, port: 80}]
    - matches: [{path: {type: PathPrefix, value: /rpc}}]
      backendRefs: [{name: web, port: 80}]
";

const POLICIES: &str = "
apiVersion: weft.mesh/v1alpha1
kind: TrafficPolicy
metadata: {name: web, namespace: shop, generation: 4, creationTimestamp: '2025-01-01T00:00:00Z'}
spec:
  targetRefs: [{group: '', kind: Service, name: web}]
  loadBalancer: {type: PeakEwma}
  circuitBreaker: {failureThreshold: 3, successThreshold: 1, timeout: 10m, halfOpenRequests: 1}
  retry: {attempts: 1, codes: [500], budget: {percent: 100}}
---
apiVersion: weft.mesh/v1alpha1
kind: TrafficPolicy
metadata: {name: younger, namespace: shop, generation: 1, creationTimestamp: '2025-02-01T00:00:00Z'}
spec:
  targetRefs: [{group: '', kind: Service, name: web}]
  loadBalancer: {type: Random}
";

/// A captured shop with an access log, the route and the policies, in which `web-2` has failed until its breaker opened.
fn seen(story: impl FnOnce(&mut Shop) -> Result<()>) {
    let options = DaemonOptions {
        extra: vec!["--access-log".to_owned()],
        ..DaemonOptions::default()
    };
    tell(Shop::captured_with(Options::default(), &options), |shop| {
        shop.objects.apply(ROUTE)?;
        shop.objects.apply(POLICIES)?;
        let netns = shop.client.netns.clone();
        wait_for("the route", HANG_GUARD, || {
            let answer = client::once(&netns, Version::Http1, WEB4, "/nothing")?;
            Ok((answer.status == 404).then_some(()))
        })?;
        shop.behave("web-2", &json!({"status": 500}))?;
        wait_for("the breaker", HANG_GUARD, || {
            shop.send(&cart(), 12)?;
            let metrics = shop.metrics()?;
            Ok((metrics.sum("weft_ejections_total", &[("upstream_service", "web")]) > 0.0).then_some(()))
        })?;
        story(shop)
    });
}

fn cart() -> Load {
    Load::fresh(Version::Http1, WEB4)
        .path("/cart/1?token=secret")
        .header("x-user", "premium")
}

/// The daemon beside the client.
fn daemon(shop: &Shop) -> Result<&Daemon> {
    shop.daemons[0].as_ref().context("no daemon")
}

/// What a question prints.
fn table(shop: &Shop, question: &[&str]) -> Result<String> {
    let output = daemon(shop)?.look(question)?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success() && said.is_empty(), "{question:?}: {said}");
    Ok(String::from_utf8(output.stdout)?)
}

fn look(shop: &Shop, question: &[&str]) -> Result<Value> {
    let text = table(shop, &[question, &["-o", "json"]].concat())?;
    serde_json::from_str(&text).context(text)
}

/// Whether a value has these fields.
fn has(value: &Value, fields: &Value) -> Result<()> {
    for (name, expected) in fields.as_object().context("no object")? {
        ensure!(
            value.get(name) == Some(expected),
            "{name} is not {expected} in {value:#}"
        );
    }
    Ok(())
}

fn list<'a>(value: &'a Value, name: &str) -> Result<&'a Vec<Value>> {
    value[name]
        .as_array()
        .with_context(|| format!("no list {name} in {value:#}"))
}

/// The item of a list of which a field has this value.
fn find<'a>(value: &'a Value, list_name: &str, field: &str, wanted: &str) -> Result<&'a Value> {
    let mut items = list(value, list_name)?.iter();
    items
        .find(|item| item[field] == wanted)
        .with_context(|| format!("no {field} {wanted} in {value:#}"))
}

#[test]
fn routes_endpoints_and_policies_are_shown_as_they_hold() {
    seen(|shop| {
        routes(shop)?;
        endpoints(shop)?;
        policy(shop)?;
        metrics(shop)
    });
}

fn routes(shop: &Shop) -> Result<()> {
    let view = look(shop, &["routes", "shop/web"])?;
    ensure!(view == look(shop, &["routes", "web", "-n", "shop"])?, "{view:#}");
    ensure!(view == look(shop, &["routes", "-n", "shop"])?, "{view:#}");
    let rules = list(&view, "rules")?;
    ensure!(rules.len() == 3, "{view:#}");
    has(
        &rules[0],
        &json!({
            "service": "shop/web", "port": 80, "addresses": ["10.96.0.10", "fd96::10"], "clients": null,
            "match": "prefix /cart method=GET header x-user=premium",
            "action": {"type": "forward", "backends": [{"name": "shop/web:80", "weight": 1, "isResolved": true, "filters": []}]},
            "filters": [],
            "route": "shop/web", "generation": 3, "rule": 0, "ruleName": "cart"
        }),
    )?;
    has(
        &rules[1]["action"]["backends"][0],
        &json!({"name": "shop/gone:80", "isResolved": false}),
    )?;
    let parent = &list(&view, "routes")?[0]["parents"][0];
    has(parent, &json!({"service": "shop/web", "port": 80, "sectionName": null}))?;
    has(
        find(parent, "conditions", "type", "Accepted")?,
        &json!({"status": "True"}),
    )?;
    let resolved = find(parent, "conditions", "type", "ResolvedRefs")?;
    has(resolved, &json!({"status": "False", "reason": "BackendNotFound"}))?;
    let table = table(shop, &["routes"])?;
    ensure!(table.contains("shop/web#0(cart)"), "{table}");
    Ok(())
}

fn endpoints(shop: &Shop) -> Result<()> {
    let view = look(shop, &["endpoints", "shop/web"])?;
    has(&view, &json!({"service": "shop/web", "requestsInFlight": 0}))?;
    let ports = list(&view, "ports")?;
    ensure!(ports.len() == 6, "three ports in two families: {view:#}");
    let port = &ports[0];
    has(port, &json!({"port": 80, "family": "IPv4", "loadBalancer": "PeakEwma"}))?;
    ensure!(list(port, "endpoints")?.len() == 3, "{port:#}");
    for (pod, state, breaker) in [("shop/web-1", "ready", "closed"), ("shop/web-2", "ejected", "open")] {
        let endpoint = find(port, "endpoints", "pod", pod)?;
        has(endpoint, &json!({"state": state, "requestsInFlight": 0, "weight": 1}))?;
        has(&endpoint["breaker"], &json!({"state": breaker}))?;
        ensure!(
            endpoint["latencyMs"].as_f64().is_some_and(|latency| latency > 0.0),
            "{endpoint:#}"
        );
        ensure!(
            endpoint["latencyAgeMs"].as_f64().is_some_and(|age| age >= 0.0),
            "{endpoint:#}"
        );
        // the kernel's ear hears both, as every connection of these goes through it
        ensure!(
            endpoint["roundTripMs"].as_f64().is_some_and(|time| time > 0.0),
            "{endpoint:#}"
        );
        ensure!(endpoint["retransmits"].is_u64(), "{endpoint:#}");
    }
    let left = find(port, "endpoints", "pod", "shop/web-2")?["breaker"]["openForMs"].as_f64();
    ensure!(left.is_some_and(|left| left > 0.0 && left <= 600_000.0), "{left:?}");
    let table = table(shop, &["endpoints", "web", "-n", "shop"])?;
    ensure!(table.contains("ejected   open for "), "{table}");
    Ok(())
}

fn policy(shop: &Shop) -> Result<()> {
    let view = look(shop, &["policy", "shop/web"])?;
    has(&view, &json!({"policy": {"name": "shop/web", "generation": 4}}))?;
    let by_policy = json!({"kind": "TrafficPolicy", "name": "shop/web", "generation": 4});
    let by_rule = json!({"kind": "HTTPRoute", "name": "shop/web", "generation": 3});
    let default = json!({"kind": "default", "name": null, "generation": null});
    for (field, value, from) in [
        ("loadBalancer.type", "PeakEwma", &by_policy),
        ("circuitBreaker.failureThreshold", "3", &by_policy),
        ("circuitBreaker.timeout", "10m", &by_policy),
        ("retry.codes", "500", &by_policy),
        ("retry.backoff", "25ms", &default),
        ("limits.maxRequests", "none", &default),
        ("timeout.request", "none", &default),
    ] {
        has(
            find(&view, "settings", "field", field)?,
            &json!({"value": value, "from": from}),
        )?;
    }
    let rule = &list(&view, "rules")?[0];
    has(
        rule,
        &json!({"route": "shop/web", "generation": 3, "rule": 0, "ruleName": "cart", "clients": null}),
    )?;
    has(
        find(rule, "settings", "field", "timeout.request")?,
        &json!({"value": "2s", "from": by_rule}),
    )?;
    for (name, generation, reason) in [("shop/web", 4, "Accepted"), ("shop/younger", 1, "Conflicted")] {
        let policy = find(&view, "policies", "policy", name)?;
        has(policy, &json!({"generation": generation}))?;
        has(&policy["conditions"][0], &json!({"type": "Accepted", "reason": reason}))?;
    }
    let table = table(shop, &["policy", "shop/web"])?;
    ensure!(
        table.contains("Conflicted") && table.contains("HTTPRoute shop/web generation 3"),
        "{table}"
    );
    Ok(())
}

/// Each count is known: the breaker opened with the third failure, each of the three was retried, and nothing else failed.
fn metrics(shop: &Shop) -> Result<()> {
    let count = |name, filter| Ok::<_, anyhow::Error>(to_count(shop.metrics()?.sum(name, filter)));
    let web = [("upstream_service", "web"), ("upstream_namespace", "shop")];
    let port = [web[0], web[1], ("upstream_port", "80")];
    let failed = [port[0], port[1], port[2], ("result", "5xx")];
    ensure!(count("weft_upstream_requests_total", &failed)? == 3);
    let retried = [port[0], port[1], port[2], ("reason", "5xx"), ("result", "sent")];
    ensure!(count("weft_retries_total", &retried)? == 3 && count("weft_retries_total", &[])? == 3);
    let ejected = [port[0], port[1], port[2], ("reason", "5xx")];
    ensure!(count("weft_ejections_total", &ejected)? == 1 && count("weft_ejections_total", &[])? == 1);
    let before = shop.metrics()?;
    shop.send(&cart(), 12)?;
    wait_for("twelve attempts to be counted", HANG_GUARD, || {
        let since = shop.metrics()?.since(&before);
        let answered = since.sum(
            "weft_upstream_requests_total",
            &[port[0], port[1], port[2], ("result", "2xx")],
        );
        let timed = since.sum("weft_upstream_duration_seconds_count", &port);
        let counted = (to_count(answered), to_count(timed));
        ensure!(counted == (12, 12), "they are {counted:?}");
        Ok(Some(()))
    })?;
    let metrics = daemon(shop)?.metrics()?;
    let states = metrics.by("weft_circuit_breaker_state", "endpoint", &web);
    let open = format!("{}:8080", shop.server("web-2")?.pod.v4);
    ensure!(states.get(&open) == Some(&2.0), "{states:?}");
    // three servers with three ports in two families
    let closed = states.values().filter(|state| **state == 0.0).count();
    ensure!(states.len() == 18 && closed == 17, "{states:?}");
    let in_flight = metrics.by("weft_endpoint_requests_in_flight", "endpoint", &web);
    ensure!(
        in_flight.keys().eq(states.keys()) && in_flight.values().all(|requests| *requests == 0.0),
        "{in_flight:?}"
    );
    ensure!(count("weft_access_log_dropped_total", &[])? == 0);
    Ok(())
}

/// The last line of the access log that a field's value names.
pub(crate) fn logged(shop: &Shop, field: &str, value: &Value) -> Result<Value> {
    wait_for("a line of the access log", HANG_GUARD, || {
        let output = daemon(shop)?.process.output();
        let lines = output.lines().filter(|line| line.starts_with('{'));
        let mut lines = lines.filter_map(|line| serde_json::from_str::<Value>(line).ok());
        Ok(lines.rfind(|line| line[field] == *value))
    })
}

#[test]
fn each_request_and_each_connection_leaves_a_line() {
    seen(|shop| {
        let answer = client::ask(&shop.client.netns, &cart().path("/cart/mine?token=secret"))?;
        ensure!(answer.status == 200, "{answer:?}");
        let line = logged(shop, "path", &json!("/cart/mine"))?;
        has(
            &line,
            &json!({
                "kind": "request", "sourceWorkload": "client", "sourceNamespace": "shop", "sourcePod": "client",
                "sourceAddress": shop.client.v4.to_string(), "destination": "10.96.0.10:80", "service": "shop/web",
                "protocol": "http/1.1", "method": "GET", "host": "10.96.0.10:80", "status": 200, "grpcStatus": null,
                "outcome": "completed", "route": "shop/web", "routeGeneration": 3, "rule": 0, "ruleName": "cart",
                "backend": "shop/web", "policy": "shop/web", "policyGeneration": 4, "addressedPolicy": "shop/web",
                "addressedPolicyGeneration": 4, "attempts": 1, "requestBytes": null, "responseBytes": answer.body.len()
            }),
        )?;
        let time = line["time"].as_str().context("no time")?;
        ensure!(
            time.len() == "2026-01-01T00:00:00.000Z".len() && time.ends_with('Z'),
            "{time}"
        );
        ensure!(line["durationMs"].as_f64().is_some_and(|time| time > 0.0), "{line:#}");
        let pod = line["endpointPod"].as_str().and_then(|pod| pod.strip_prefix("shop/"));
        let pod = &shop.server(pod.context("no pod")?)?.pod;
        ensure!(line["endpoint"] == format!("{}:8080", pod.v4), "{line:#}");

        client::once(&shop.client.netns, Version::Http1, WEB4, "/gone/x")?;
        let line = logged(shop, "rule", &json!(1))?;
        has(
            &line,
            &json!({"status": 500, "outcome": "backend_unresolved", "endpoint": null, "attempts": 0, "backend": null}),
        )?;

        let mut stream = tcp::connect(&shop.client.netns, (SERVICE_V4, ECHO_PORT).into())?;
        let echoed = tcp::echo(&mut stream, b"hello")?;
        ensure!(echoed == b"hello");
        let rest = tcp::finish(&mut stream)?;
        let line = logged(shop, "kind", &json!("connection"))?;
        has(
            &line,
            &json!({
                "protocol": "tcp", "destination": "10.96.0.10:9000", "service": "shop/web", "requestBytes": 5,
                "responseBytes": 5 + rest.len(), "outcome": "completed", "method": null, "status": null, "policy": "shop/web", "sourcePod": "client"
            }),
        )
    });
}

#[test]
fn the_line_of_a_request_says_how_often_it_was_tried_and_what_a_call_came_to() {
    seen(|shop| {
        let all = |behaviour: &Value| {
            let mut names = ["web-1", "web-3"].into_iter();
            names.try_for_each(|name| shop.behave(name, behaviour))
        };
        // the two that are left fail both: the policy's one retry is made, and its answer is the answer
        all(&json!({"status": 500, "times": 1}))?;
        let answer = client::ask(&shop.client.netns, &cart().path("/cart/twice"))?;
        ensure!(answer.status == 500, "{answer:?}");
        let line = logged(shop, "path", &json!("/cart/twice"))?;
        has(
            &line,
            &json!({"status": 500, "attempts": 2, "outcome": "completed", "grpcStatus": null}),
        )?;
        for (status, path) in [(0, "/rpc/Well"), (8, "/rpc/Exhausted")] {
            all(&json!({"grpc_status": status}))?;
            let answer = client::ask(&shop.client.netns, &Load::grpc(WEB4).path(path))?;
            ensure!(answer.grpc_status() == Some(status), "{answer:?}");
            let line = logged(shop, "path", &json!(path))?;
            has(
                &line,
                &json!({
                    "status": 200, "grpcStatus": status, "attempts": 1, "protocol": "http/2", "method": "POST",
                    "outcome": "completed", "rule": 2
                }),
            )?;
        }
        Ok(())
    });
}

#[test]
fn a_question_without_an_answer_says_why_in_one_sentence() {
    tell(Shop::captured(), |shop| {
        for (question, code, part) in [
            (
                &["endpoints", "shop/wbe"][..],
                1,
                "there is no Service shop/wbe that this node knows; it knows shop/web",
            ),
            (
                &["policy", "web"],
                1,
                "there is no Service default/web that this node knows; it knows shop/web",
            ),
            (&["routes", "shop/wbe"], 1, "there is no Service shop/wbe"),
            (&["routes", "-o", "yaml"], 2, "invalid value 'yaml'"),
            (&["endpoints"], 2, "<SERVICE>"),
            (&["policy", "shop/web", "-n", "other"], 2, "name one namespace"),
        ] {
            refused(daemon(shop)?.look(question)?, code, part)?;
        }
        let mut elsewhere = std::process::Command::new(mesh_tests::process::binary("mesh-daemon")?);
        let socket = shop.bench.dir().join("nobody.sock");
        elsewhere.args(["routes", "--admin-socket"]).arg(socket);
        refused(elsewhere.output()?, 1, "no daemon answers on ")?;
        let table = table(shop, &["routes", "shop/web"])?;
        ensure!(table.contains("its requests go to its own endpoints"), "{table}");
        Ok(())
    });
}

/// As behind `| head -1`, once it has seen enough.
#[test]
fn an_answer_that_nobody_reads_to_its_end_ends_in_silence() {
    tell(Shop::captured(), |shop| {
        for question in [
            &["routes"][..],
            &["endpoints", "shop/web"],
            &["policy", "shop/web"],
            &["policy", "-o", "json"],
            &["routes", "--help"],
        ] {
            let (reader, writer) = std::io::pipe()?;
            drop(reader);
            let output = daemon(shop)?.question(question)?.stdout(writer).output()?;
            let said = String::from_utf8_lossy(&output.stderr);
            ensure!(
                output.status.success() && said.is_empty(),
                "{question:?}: {}: {said}",
                output.status
            );
        }
        Ok(())
    });
}

fn refused(output: std::process::Output, code: i32, part: &str) -> Result<()> {
    let said = String::from_utf8(output.stderr)?;
    ensure!(output.status.code() == Some(code), "{}: {said}", output.status);
    ensure!(output.stdout.is_empty(), "an error is not printed as an answer");
    ensure!(said.lines().count() == 1 && said.contains(part), "{said}");
    Ok(())
}
