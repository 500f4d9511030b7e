//! Which source address a destination sees: the client's own, and the node's own where the answer would not come back.

use std::net::{IpAddr, SocketAddr};

use anyhow::{Context, Result, ensure};
use mesh_tests::{
    bench::{Netns, OUTSIDE_V4, OUTSIDE_V6, wait_for},
    client::{self, Version},
    daemon::HANG_GUARD,
    manifests::{Port, Service},
    process::Process,
    shop::{HTTP_PORT, NAMESPACE, Shop, WEB4, WEB6},
};

use crate::{captured, counting};

/// Addresses of node 1, towards node 2 and towards the outside network.
const NODE_1: [&str; 4] = ["172.31.0.1", "fd31::1", "198.51.100.1", "fd98::1"];

/// The remote address that the server saw, and the server's pod.
fn seen(from: &Netns, target: SocketAddr) -> Result<(IpAddr, String)> {
    let answer = client::once(from, Version::Http1, target, "/whoami")?;
    let json: serde_json::Value = serde_json::from_slice(&answer.body)?;
    let text = |key: &str| {
        json[key]
            .as_str()
            .map(str::to_owned)
            .with_context(|| format!("no {key} in {json}"))
    };
    Ok((text("remote")?.parse()?, text("pod")?))
}

#[test]
fn the_servers_see_the_client_pod_on_the_same_and_on_the_other_node() {
    captured(|shop| {
        for target in [WEB4, WEB6] {
            let mut pods = std::collections::BTreeSet::new();
            for _ in 0..6 {
                let ((remote, pod), connections) = counting(shop, || seen(&shop.client.netns, target))?;
                ensure!(connections == 1, "it was not captured");
                ensure!(remote == shop.client.ip(remote), "{pod} saw {remote}");
                pods.insert(pod);
            }
            ensure!(pods.len() == 3, "only {pods:?} were met");
        }
        Ok(())
    });
}

/// A Service of its own with these endpoints; waits until the client reaches it through the daemon. Its addresses.
fn service(shop: &mut Shop, name: &str, number: u8, endpoints: &[IpAddr], from: &Netns) -> Result<[SocketAddr; 2]> {
    let ips: [IpAddr; 2] = [
        format!("10.96.1.{number}").parse()?,
        format!("fd96::1:{number}").parse()?,
    ];
    let service = Service {
        namespace: NAMESPACE.to_owned(),
        name: name.to_owned(),
        ips: ips.to_vec(),
        ports: vec![Port::new("http", 80, HTTP_PORT)],
        endpoints: endpoints.to_vec(),
    };
    shop.services.insert(name.to_owned(), service);
    shop.publish()?;
    let targets = ips.map(|ip| SocketAddr::new(ip, 80));
    for target in targets {
        wait_for("the new service to be captured", HANG_GUARD, || {
            let (_, connections) = counting(shop, || client::once(from, Version::Http1, target, "/"))?;
            Ok((connections > 0).then_some(()))
        })?;
    }
    Ok(targets)
}

fn sees_node_1(from: &Netns, targets: [SocketAddr; 2]) -> Result<()> {
    for target in targets {
        let (remote, pod) = seen(from, target)?;
        ensure!(
            NODE_1.contains(&&*remote.to_string()),
            "{target}: {pod} saw {remote}, which is not node 1"
        );
    }
    Ok(())
}

#[test]
fn a_pod_that_reaches_itself_through_its_service_sees_the_node() {
    captured(|shop| {
        let pod = shop.server("web-1")?.pod.clone();
        let targets = service(shop, "self", 1, &pod.ips(), &pod.netns)?;
        sees_node_1(&pod.netns, targets)
    });
}

#[test]
fn host_network_endpoints_of_both_nodes_see_the_node() {
    captured(|shop| {
        for node in [0, 1] {
            let host = shop.bench.nodes[node].clone();
            let log = shop.bench.dir().join("host.log");
            let args = ["--name", "host", "--port", &HTTP_PORT.to_string()];
            let _server = Process::in_namespace(&host.netns, "weft-server", &args, &log)?;
            let number = u8::try_from(10 + node)?;
            let from = shop.client.netns.clone();
            let targets = service(shop, &format!("host-{node}"), number, &host.ips(), &from)?;
            sees_node_1(&from, targets)?;
        }
        Ok(())
    });
}

#[test]
fn endpoints_outside_the_pod_ranges_see_the_node() {
    captured(|shop| {
        let log = shop.bench.dir().join("outside.log");
        let args = ["--name", "outside", "--port", &HTTP_PORT.to_string()];
        let _server = Process::in_namespace(&shop.bench.outside, "weft-server", &args, &log)?;
        let from = shop.client.netns.clone();
        let targets = service(shop, "outside", 20, &[OUTSIDE_V4.into(), OUTSIDE_V6.into()], &from)?;
        sees_node_1(&from, targets)
    });
}
