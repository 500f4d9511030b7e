//! How soon one changed endpoint, of ten thousand, is served: a captured client asks until the new endpoint answers.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::{figures, load, world::World};
use crate::{
    bench::{Pod, wait_for},
    client::{self, Version},
    daemon::HANG_GUARD,
    process::Process,
};

/// Changes that are measured.
const CHANGES: usize = 200;
/// Changes before them that are not: the first connections fill caches.
const WARM_UP: usize = 10;
/// The captured namespace.
const NAMESPACE: &str = "shop";
/// The Service's address.
const SERVICE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 96, 250, 10)), 80);
/// The Service's one slice.
const SLICES: &str = "/apis/discovery.k8s.io/v1/namespaces/shop/endpointslices";
/// What is aimed at, printed beside what was seen.
const AIM: &str = "aim: p50 and p99 under 50 ms";

/// Measures and prints.
///
/// # Errors
/// If a part does not start, or a change is never served.
pub fn churn() -> Result<()> {
    let mut world = World::open()?;
    let client = world.bench.add_pod(0, "client")?;
    let servers = [world.bench.add_pod(0, "web-1")?, world.bench.add_pod(0, "web-2")?];
    shop(&world, &client, &servers)?;
    let _running = servers
        .iter()
        .map(|pod| serve(&world, pod))
        .collect::<Result<Vec<_>>>()?;
    let daemon = world.start_daemon()?;
    wait_for("capture", HANG_GUARD, || {
        Ok((world.metrics()?.sum("weft_pods", &[("state", "captured")]) >= 3.0).then_some(()))
    })?;
    ask_until(&client, "web-1")?;
    let before = world.metrics()?;
    let mut times = Vec::new();
    for change in 0..WARM_UP + CHANGES {
        let server = &servers[(change + 1) % 2];
        let body = json!({"endpoints": [endpoint(server)]});
        let begun = Instant::now();
        world
            .plane
            .with_client(|client| async move { load::merge_patch(&client, &format!("{SLICES}/web-1"), body).await })?;
        let accepted = begun.elapsed();
        let served = ask_until(&client, &server.name)?;
        if change >= WARM_UP {
            times.push((
                figures::ms(served.duration_since(begun)),
                figures::ms(served.duration_since(begun).saturating_sub(accepted)),
            ));
        }
    }
    let since = world.metrics()?.since(&before);
    world.end_daemon(daemon)?;
    let (all, after): (Vec<f64>, Vec<f64>) = times.into_iter().unzip();
    println!("one endpoint of 10,000 changed, {CHANGES} times; {AIM}");
    tell("from the request to the API server", &all);
    tell("from its answer", &after);
    let own = since
        .quantile("weft_event_to_applied_seconds", 0.99, &[])
        .context("no weft_event_to_applied_seconds")?;
    println!(
        "the daemon's own p99 from event to applied (by its histogram): {:.1} ms",
        own * 1000.0
    );
    Ok(())
}

fn tell(what: &str, times: &[f64]) {
    println!(
        "{what:36} p50 {:7.2} ms  p99 {:7.2} ms  max {:7.2} ms",
        figures::quantile(times, 50),
        figures::quantile(times, 99),
        figures::quantile(times, 100)
    );
}

/// A captured namespace with the client, both servers, and a Service whose one endpoint is the first of them.
fn shop(world: &World, client: &Pod, servers: &[Pod; 2]) -> Result<()> {
    let slice = json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {"name": "web-1", "labels": {"kubernetes.io/service-name": "web"}},
        "endpoints": [endpoint(&servers[0])], "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}]
    });
    world.plane.with_client(|client| async move {
        let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE, "labels": {"weft.mesh/capture": "enabled"}}});
        let service = json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"},
            "spec": {"clusterIP": SERVICE.ip(), "ports": [{"name": "http", "port": SERVICE.port(), "targetPort": 8080}]}
        });
        load::create_all(&client, "/api/v1/namespaces", vec![namespace]).await?;
        load::create_all(&client, &format!("/api/v1/namespaces/{NAMESPACE}/services"), vec![service]).await?;
        load::create_all(&client, SLICES, vec![slice]).await
    })?;
    [client, &servers[0], &servers[1]]
        .into_iter()
        .try_for_each(|pod| world.announce(NAMESPACE, pod))
}

fn endpoint(pod: &Pod) -> Value {
    json!({"addresses": [pod.v4], "conditions": {"ready": true}, "nodeName": "n1"})
}

fn serve(world: &World, pod: &Pod) -> Result<Process> {
    let log = world.bench.dir().join(format!("{}.log", pod.name));
    let server = Process::in_namespace(&pod.netns, "weft-server", &["--name", &pod.name], &log)?;
    let own = SocketAddr::new(pod.v4.into(), 8080);
    wait_for("a server", HANG_GUARD, || {
        Ok(client::once(&pod.netns, Version::Http1, own, "/").ok())
    })?;
    Ok(server)
}

/// Asks, each time over a new connection, until this server answers; says when it did.
fn ask_until(client: &Pod, server: &str) -> Result<Instant> {
    let begun = Instant::now();
    loop {
        let answer = client::once(&client.netns, Version::Http1, SERVICE, "/")?;
        if answer.text() == server {
            return Ok(Instant::now());
        }
        ensure!(
            begun.elapsed() < HANG_GUARD,
            "{server} was not served within {HANG_GUARD:?}"
        );
        std::thread::sleep(Duration::from_millis(1));
    }
}
