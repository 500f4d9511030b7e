//! What is not the mesh's business flows as if it were not there, and what a captured pod may not do is dropped.

use std::{net::IpAddr, time::Duration};

use anyhow::{Context, Result, ensure};
use mesh_common::counter::Counter;
use mesh_tests::{
    bench::{Netns, OUTSIDE_V4, OUTSIDE_V6},
    daemon::DECISIONS,
    shop::{Shop, WEB4, WEB6},
    tcp,
};

use crate::{captured, counting};

/// Long enough for a SYN and one that is sent again.
const DROPPED_AFTER: Duration = Duration::from_millis(1500);

/// Connects from the client to a listener in a namespace; the peer's address that the listener saw, and the captured connections.
fn reach(shop: &Shop, host: &Netns, ip: IpAddr) -> Result<(IpAddr, u64)> {
    let target = (ip, 7000).into();
    let listener = host.inside(|| std::net::TcpListener::bind(target))??;
    let (peer, connections) = counting(shop, || {
        let _stream = tcp::connect(&shop.client.netns, target)?;
        Ok(listener.accept()?.1.ip())
    })?;
    Ok((peer, connections))
}

#[test]
fn a_node_address_is_reached_directly_with_the_pods_address() {
    captured(|shop| {
        for node in &shop.bench.nodes {
            for ip in node.ips() {
                let (peer, connections) = reach(shop, &node.netns, ip)?;
                ensure!(peer == shop.client.ip(peer), "{ip} saw {peer}");
                ensure!(connections == 0, "{ip}: it was captured");
            }
        }
        Ok(())
    });
}

#[test]
fn the_outside_network_is_reached_directly() {
    captured(|shop| {
        for ip in [IpAddr::from(OUTSIDE_V4), OUTSIDE_V6.into()] {
            let (_, connections) = reach(shop, &shop.bench.outside, ip)?;
            ensure!(connections == 0, "{ip}: it was captured");
        }
        Ok(())
    });
}

#[test]
fn udp_and_ping_of_a_captured_pod_pass() {
    captured(|shop| {
        let server = shop.server("web-2")?.pod.clone();
        for ip in server.ips() {
            let target = std::net::SocketAddr::new(ip, 5353);
            let far = server.netns.inside(|| std::net::UdpSocket::bind(target))??;
            far.set_read_timeout(Some(tcp::TIMEOUT))?;
            let own = shop.client.ip(ip);
            let near = shop.client.netns.inside(|| std::net::UdpSocket::bind((own, 0)))??;
            near.send_to(b"hello", target)?;
            let mut buffer = [0; 16];
            let (count, from) = far.recv_from(&mut buffer).context("no datagram came")?;
            ensure!(&buffer[..count] == b"hello" && from.ip() == own, "{from}");
        }
        Ok(())
    });
}

#[test]
fn a_spoofed_source_is_dropped_and_counted() {
    captured(|shop| {
        for (source, target) in [("10.244.1.99", WEB4), ("fd44:1::99", WEB6)] {
            let prefix = if target.is_ipv4() { "32" } else { "128 nodad" };
            let (length, flags) = prefix.split_once(' ').unwrap_or((prefix, ""));
            shop.client
                .netns
                .ip(&format!("addr add {source}/{length} dev eth0 {flags}\n"))?;
            let before = shop.daemon(0)?.metrics()?;
            let result = tcp::connect_from(&shop.client.netns, source.parse()?, target, DROPPED_AFTER);
            ensure!(result.is_err(), "a connection from {source} was made");
            let since = shop.daemon(0)?.metrics()?.since(&before);
            let dropped = since.sum(DECISIONS, &[("decision", Counter::DropSpoofedSource.name())]);
            ensure!(dropped >= 1.0, "{dropped} were counted");
            tcp::connect(&shop.client.netns, target).context("its own address must still work")?;
        }
        Ok(())
    });
}
