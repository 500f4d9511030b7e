//! HTTPRoutes from their YAML to what clients see: each field of the standard, each answer of the mesh itself.

mod matches;
mod precedence;
mod filters;
mod redirects;
mod backends;
mod nobody;
mod parents;
mod clients;
mod timeouts;
mod retries;
mod unsupported;
mod bytes;
mod changes;

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::atomic::{AtomicU64, Ordering},
};

use anyhow::{Context as _, Result, ensure};
use mesh_tests::{
    announce::Announce as _,
    bench::{Netns, wait_for},
    client::{self, Answer, Load, Version},
    daemon::HANG_GUARD,
    manifests::{Port, Service},
    shop::{HTTP_PORT, NAMESPACE, SERVICE_PORTS, Shop, WEB4, WEB6},
};
use serde_json::Value;

/// The header by which rules of these tests say who they are.
const RULE: &str = "x-rule";
/// The header in which the mesh says why it answers itself.
const REASON: &str = "x-weft-reason";
/// The Service whose route says how far the daemon has read.
const MARKER: &str = "marker";
/// Its addresses' number.
const MARKER_NUMBER: u16 = 250;
/// The Service of all servers, in both families.
const WEB: [SocketAddr; 2] = [WEB4, WEB6];

/// The usual shop, captured, with what [`apply`] needs.
fn routed(story: impl FnOnce(&mut Shop) -> Result<()>) {
    crate::captured(|shop| {
        add_service(shop, MARKER, MARKER_NUMBER, &["web-1"])?;
        story(shop)
    });
}

/// The addresses of a Service of these tests.
fn addresses(number: u16) -> [IpAddr; 2] {
    let [_, low] = number.to_be_bytes();
    [
        Ipv4Addr::new(10, 96, 1, low).into(),
        Ipv6Addr::new(0xfd96, 0, 0, 0, 0, 0, 1, number).into(),
    ]
}

/// The port 80 of a Service of these tests, in both families.
fn at(number: u16) -> [SocketAddr; 2] {
    addresses(number).map(|ip| SocketAddr::new(ip, SERVICE_PORTS[0]))
}

/// One more Service with these servers behind its port 80.
fn add_service(shop: &mut Shop, name: &str, number: u16, servers: &[&str]) -> Result<()> {
    let service = service(shop, name, number, servers)?;
    shop.services.insert(name.to_owned(), service);
    shop.publish()
}

/// A Service that is not announced yet.
fn service(shop: &Shop, name: &str, number: u16, servers: &[&str]) -> Result<Service> {
    let mut endpoints = Vec::new();
    for server in servers {
        endpoints.extend(shop.server(server)?.pod.ips());
    }
    Ok(Service {
        namespace: NAMESPACE.to_owned(),
        name: name.to_owned(),
        ips: addresses(number).to_vec(),
        ports: vec![Port::new("http", SERVICE_PORTS[0], HTTP_PORT)],
        endpoints,
    })
}

/// Applies objects and waits until the client's daemon serves by them.
fn apply(shop: &Shop, yaml: &str) -> Result<()> {
    shop.objects.apply(yaml)?;
    settle(shop)
}

/// Takes an HTTPRoute of the shop away and waits until the client's daemon serves without it.
fn delete(shop: &Shop, name: &str) -> Result<()> {
    shop.objects.delete("HTTPRoute", NAMESPACE, name)?;
    settle(shop)
}

/// Waits until the client's daemon serves by everything that was announced before: a route that is announced last takes effect, and a snapshot is made of the
/// whole directory.
fn settle(shop: &Shop) -> Result<()> {
    static SETTLED: AtomicU64 = AtomicU64::new(0);
    let path = format!("/{}", SETTLED.fetch_add(1, Ordering::Relaxed));
    shop.objects.apply(&format!(
        "
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{name: {MARKER}, namespace: {NAMESPACE}}}
spec:
  parentRefs: [{{group: '', kind: Service, name: {MARKER}}}]
  rules:
    - matches: [{{path: {{type: Exact, value: {path}}}}}]
      filters: [{{type: RequestRedirect, requestRedirect: {{statusCode: 301}}}}]
"
    ))?;
    wait_for("what was applied", HANG_GUARD, || {
        let answer = client::once(&shop.client.netns, Version::Http1, at(MARKER_NUMBER)[0], &path)?;
        Ok((answer.status == 301).then_some(()))
    })
}

/// Requests for a path in both versions to both families.
fn each_way(targets: [SocketAddr; 2], path: &str) -> Vec<Load> {
    let versions = [Version::Http1, Version::Http2];
    let of = |target: SocketAddr| versions.map(|version| Load::fresh(version, target).path(path));
    targets.into_iter().flat_map(of).collect()
}

/// One answer, for a client anywhere.
fn ask_from(netns: &Netns, load: &Load) -> Result<Answer> {
    client::ask(netns, load).with_context(|| format!("{load:?}"))
}

/// One answer, for the shop's client.
fn ask(shop: &Shop, load: &Load) -> Result<Answer> {
    ask_from(&shop.client.netns, load)
}

/// What the server was asked, as it says; the answer must be 200.
fn echoed(shop: &Shop, load: Load) -> Result<Value> {
    let (name, value) = client::ECHO_HEADER;
    let load = load.header(name, value);
    let answer = ask(shop, &load)?;
    ensure!(answer.status == 200, "{load:?}: {answer:?}");
    answer.echoed()
}

/// The answer must be the mesh's own, with this status and reason.
fn refused(shop: &Shop, load: &Load, status: u16, reason: &str) -> Result<()> {
    let answer = ask(shop, load)?;
    ensure!(
        answer.status == status && answer.header(REASON) == reason,
        "{load:?}: not {status} {reason}: {answer:?}"
    );
    Ok(())
}

/// As [`refused`], for a gRPC call: its status stands in the head, which is all there is.
fn refused_call(shop: &Shop, load: &Load, status: u8, reason: &str) -> Result<()> {
    let answer = ask(shop, load)?;
    let is_call = answer.status == 200 && answer.header("content-type") == "application/grpc";
    ensure!(
        is_call && answer.grpc_status() == Some(status) && answer.header(REASON) == reason,
        "{load:?}: not grpc-status {status} {reason}: {answer:?}"
    );
    Ok(())
}

/// The mesh refuses a path in every version and family alike, and gRPC calls of that path too.
fn refused_each_way(shop: &Shop, targets: [SocketAddr; 2], path: &str, how: (u16, u8), reason: &str) -> Result<()> {
    for load in each_way(targets, path) {
        refused(shop, &load, how.0, reason)?;
    }
    for target in targets {
        refused_call(shop, &Load::grpc(target).path(path), how.1, reason)?;
    }
    Ok(())
}
