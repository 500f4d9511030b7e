//! What is not the mesh's business flows as if it were not there, and what a captured pod may not do is dropped.

use std::{
    io::{Read, Write},
    net::IpAddr,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use mesh_common::counter::Counter;
use mesh_tests::{
    bench::{Netns, OUTSIDE_V4, OUTSIDE_V6, wait_for},
    daemon::{DECISIONS, HANG_GUARD},
    shop::{Shop, WEB4, WEB6},
    tcp,
};
use socket2::{Domain, Protocol, Socket, Type};

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
            ping(&shop.client.netns, ip).with_context(|| format!("{ip} did not answer a ping"))?;
            let target = std::net::SocketAddr::new(ip, 5353);
            let far = server.netns.inside(|| std::net::UdpSocket::bind(target))??;
            far.set_read_timeout(Some(tcp::TIMEOUT))?;
            let own = shop.client.ip(ip);
            let near = shop.client.netns.inside(|| std::net::UdpSocket::bind((own, 0)))??;
            near.send_to(b"hello", target)?;
            let mut buffer = [0; 16];
            let (count, from) = far.recv_from(&mut buffer).context("no datagram came")?;
            ensure!(&buffer[..count] == b"hello" && from.ip() == own, "{from}");
            far.send_to(&buffer[..count], from)?;
            near.set_read_timeout(Some(tcp::TIMEOUT))?;
            let (count, from) = near.recv_from(&mut buffer).context("no datagram came back")?;
            ensure!(&buffer[..count] == b"hello" && from == target, "{from}");
        }
        Ok(())
    });
}

#[test]
fn a_spoofed_source_is_dropped_and_counted() {
    captured(|shop| {
        for (source, target) in [("10.244.1.99", WEB4), ("fd44:1::99", WEB6)] {
            let (length, flags) = if target.is_ipv4() { (32, "") } else { (128, "nodad") };
            // deprecated: used only by who asks for it
            shop.client.netns.ip(&format!(
                "addr add {source}/{length} dev eth0 preferred_lft 0 {flags}\n"
            ))?;
            let before = shop.daemon(0)?.metrics()?;
            let result = tcp::connect_from(&shop.client.netns, source.parse()?, target, DROPPED_AFTER);
            ensure!(result.is_err(), "a connection from {source} was made");
            let since = shop.daemon(0)?.metrics()?.since(&before);
            let dropped = since.sum(DECISIONS, &[("decision", Counter::DropSpoofedSource.name())]);
            ensure!(dropped >= 1.0, "{dropped} were counted");
            says_what_was_dropped(shop, source, target)?;
            tcp::connect(&shop.client.netns, target).context("its own address must still work")?;
        }
        Ok(())
    });
}

/// Waits for the line in which the client's daemon says what it dropped.
fn says_what_was_dropped(shop: &mut Shop, source: &str, target: std::net::SocketAddr) -> Result<()> {
    let link = shop.client.interface.clone();
    let shown = shop.bench.nodes[0]
        .netns
        .run("ip", &["-o", "link", "show", "dev", &link])?;
    let ifindex = shown.split(':').next().context("no interface index")?.to_owned();
    let words = [
        format!("reason=\"{}\"", Counter::DropSpoofedSource.name()),
        format!("ifindex={ifindex} "),
        format!("source={source}:"),
        format!("destination={}:{} ", target.ip(), target.port()),
    ];
    let daemon = shop.daemon(0)?;
    wait_for("the log line about the dropped packet", HANG_GUARD, || {
        let log = daemon.process.output();
        let mut lines = log.lines().filter(|line| line.contains("packet dropped"));
        let found = lines.any(|line| words.iter().all(|word| format!("{line} ").contains(word.as_str())));
        ensure!(found, "no line has all of {words:?}");
        Ok(Some(()))
    })
}

/// One echo request and its answer (RFC 792 and RFC 4443, section 4).
fn ping(from: &Netns, to: IpAddr) -> Result<()> {
    let (request, reply, protocol) = match to {
        IpAddr::V4(_) => (8, 0, Protocol::ICMPV4),
        IpAddr::V6(_) => (128, 129, Protocol::ICMPV6),
    };
    let target = std::net::SocketAddr::new(to, 0);
    let mut socket = from.inside(|| Socket::new(Domain::for_address(target), Type::RAW, Some(protocol)))??;
    socket.connect(&target.into())?;
    socket.set_read_timeout(Some(tcp::TIMEOUT))?;
    // type, code, checksum, identifier, sequence number; over IPv6 the kernel writes the checksum
    let mut message = [request, 0, 0, 0, 0x57, 0x46, 0, 1];
    if to.is_ipv4() {
        let sum: u32 = message
            .chunks(2)
            .map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1]))
            .sum();
        let folded = u16::try_from((sum & 0xffff) + (sum >> 16))?;
        message[2..4].copy_from_slice(&(!folded).to_be_bytes());
    }
    socket.write_all(&message)?;
    loop {
        let mut buffer = [0; 128];
        let count = socket.read(&mut buffer)?;
        // only over IPv4 a raw socket shows the IP header
        let start = if to.is_ipv4() {
            usize::from(buffer[0] & 15) * 4
        } else {
            0
        };
        let answer = buffer[..count].get(start..).unwrap_or_default();
        if answer.first() == Some(&reply) && answer.get(4..8) == Some(&message[4..]) {
            return Ok(());
        }
    }
}
