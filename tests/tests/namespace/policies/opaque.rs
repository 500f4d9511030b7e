//! Plain TCP under a policy: `loadBalancer`, connect failures and `maxConnections` hold for it.

use std::{
    io::{BufRead, BufReader},
    net::{SocketAddr, TcpStream},
};

use anyhow::{Result, ensure};
use mesh_tests::{
    shop::{SERVICE_PORTS, SERVICE_V4, SERVICE_V6, Shop},
    tcp::{self, End},
};

use super::{counter, forget, obey, wait_counter};
use crate::captured;

fn banners() -> [SocketAddr; 2] {
    [
        (SERVICE_V4, SERVICE_PORTS[2]).into(),
        (SERVICE_V6, SERVICE_PORTS[2]).into(),
    ]
}

/// A connection to a server that says its name at once, and the name.
fn greeted(shop: &Shop, target: SocketAddr) -> Result<(TcpStream, String)> {
    let stream = tcp::connect(&shop.client.netns, target)?;
    let mut line = String::new();
    BufReader::new(stream.try_clone()?).read_line(&mut line)?;
    Ok((stream, line.trim().trim_start_matches("220 ").to_owned()))
}

/// Connects, and waits until the daemon has seen the end too.
fn visit(shop: &Shop, target: SocketAddr) -> Result<String> {
    let open = counter(shop, "weft_tcp_connections_open", &[])?;
    let (mut stream, name) = greeted(shop, target)?;
    tcp::finish(&mut stream)?;
    shop_has_open(shop, open)?;
    Ok(name)
}

fn shop_has_open(shop: &Shop, expected: u64) -> Result<()> {
    mesh_tests::bench::wait_for("the end of a connection", mesh_tests::daemon::HANG_GUARD, || {
        Ok((counter(shop, "weft_tcp_connections_open", &[])? == expected).then_some(()))
    })
}

#[test]
fn balancers_hold_for_it() {
    captured(|shop| {
        for target in banners() {
            obey(shop, &["loadBalancer: {type: LeastRequest}"])?;
            let (busy, name) = greeted(shop, target)?;
            for _ in 0..9 {
                let other = visit(shop, target)?;
                ensure!(
                    other != name && other.starts_with("web-"),
                    "{target}: {name} has one, {other} none"
                );
            }
            drop(busy);
            shop_has_open(shop, 0)?;
            obey(shop, &["loadBalancer: {type: Maglev, hashKey: {type: SourceAddress}}"])?;
            let first = visit(shop, target)?;
            for _ in 0..9 {
                ensure!(visit(shop, target)? == first, "{target}: the address did not change");
            }
            // what only requests have is absent
            let absent = counter(shop, "weft_hash_key_absent_total", &[])?;
            obey(
                shop,
                &["loadBalancer: {type: Maglev, hashKey: {type: Header, name: x-user}}"],
            )?;
            visit(shop, target)?;
            ensure!(counter(shop, "weft_hash_key_absent_total", &[])? == absent + 1);
        }
        Ok(())
    });
}

#[test]
fn an_endpoint_that_refuses_is_left_out() {
    const FAILED: (&str, &[(&str, &str)]) = ("weft_upstream_requests_total", &[("result", "connect_failure")]);
    captured(|shop| {
        shop.kill_server("web-2");
        for target in banners() {
            obey(shop, &["circuitBreaker: {failureThreshold: 2, timeout: 1h}"])?;
            let before = counter(shop, FAILED.0, FAILED.1)?;
            for _ in 0..15 {
                let name = visit(shop, target)?;
                ensure!(name == "web-1" || name == "web-3", "{target}: {name}");
            }
            wait_counter(shop, FAILED.0, FAILED.1, before + 2)?;
            let dials = counter(shop, FAILED.0, FAILED.1)? - before;
            ensure!(dials == 2, "{target}: dialled {dials} times, failureThreshold is 2");
            forget(shop)?;
        }
        // where all are, the connection is refused without a dial
        shop.kill_server("web-1");
        shop.kill_server("web-3");
        obey(shop, &["circuitBreaker: {failureThreshold: 1, timeout: 1h}"])?;
        for target in banners() {
            ensure!(ends(shop, target)? == End::Reset, "{target}");
            let before = counter(shop, FAILED.0, FAILED.1)?;
            ensure!(ends(shop, target)? == End::Reset, "{target}");
            ensure!(counter(shop, FAILED.0, FAILED.1)? == before, "{target}: it was dialled");
        }
        ensure!(
            counter(
                shop,
                "weft_tcp_connections_closed_total",
                &[("outcome", "circuit_open")]
            )? == 2
        );
        Ok(())
    });
}

fn ends(shop: &Shop, target: SocketAddr) -> Result<End> {
    tcp::read_to_end(&mut tcp::connect(&shop.client.netns, target)?)
}

#[test]
fn connections_beyond_the_limit_are_reset_and_the_others_go_on() {
    captured(|shop| {
        for (spec, allowed, reason) in [
            ("limits: {maxConnections: 2}", 2, "max_connections"),
            (
                "limits: {maxConnectionsPerEndpoint: 1}",
                3,
                "max_connections_per_endpoint",
            ),
        ] {
            for target in banners() {
                obey(shop, &[spec])?;
                let mut held: Vec<_> = (0..allowed)
                    .map(|_| Ok(greeted(shop, target)?.0))
                    .collect::<Result<_>>()?;
                let outcome = [("outcome", reason)];
                let before = counter(shop, "weft_tcp_connections_closed_total", &outcome)?;
                ensure!(ends(shop, target)? == End::Reset, "{target} {spec}");
                wait_counter(shop, "weft_tcp_connections_closed_total", &outcome, before + 1)?;
                for stream in &mut held {
                    ensure!(tcp::echo(stream, b"still here")? == b"still here");
                }
                drop(held);
                shop_has_open(shop, 0)?;
                visit(shop, target)?;
            }
        }
        Ok(())
    });
}
