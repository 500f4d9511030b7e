//! A client takes up a source port again while the TIME_WAIT of its last connection still stands on the daemon's side: it must be answered
//! as by the server itself, whatever became of the daemon or the label meanwhile.

use std::{
    io::{Read, Write},
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use mesh_common::counter::Counter;
use mesh_tests::{
    bench::Netns,
    daemon::DECISIONS,
    shop::{WEB4, WEB6},
};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use super::captured;

const SOURCE_PORT: u16 = 40123;
/// Long enough for several SYNs; a TIME_WAIT lasts 60 s.
const PATIENCE: Duration = Duration::from_secs(10);

/// One request on a connection of its own from a fixed port. The server closes first, so that the TIME_WAIT is not the client's.
fn ask(netns: &Netns, target: SocketAddr) -> Result<()> {
    let any: IpAddr = if target.is_ipv4() {
        [0; 4].into()
    } else {
        [0u8; 16].into()
    };
    let connected = netns.inside(|| -> std::io::Result<Socket> {
        let socket = Socket::new(Domain::for_address(target), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_reuse_address(true)?;
        socket.bind(&SockAddr::from(SocketAddr::new(any, SOURCE_PORT)))?;
        socket.connect_timeout(&SockAddr::from(target), PATIENCE)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        Ok(socket)
    })?;
    let mut socket = connected.with_context(|| format!("connecting again to {target}"))?;
    socket.write_all(b"GET / HTTP/1.1\r\nHost: web\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    socket.read_to_string(&mut answer).context("reading the answer")?;
    ensure!(answer.starts_with("HTTP/1.1 200"), "the answer was {answer:?}");
    Ok(())
}

#[test]
fn a_source_port_is_taken_up_again_at_once() {
    captured(|shop| {
        let before = shop.metrics()?;
        for round in 0..10 {
            for target in [WEB4, WEB6] {
                ask(&shop.client.netns, target).with_context(|| format!("round {round}"))?;
            }
        }
        let reopened = shop
            .metrics()?
            .since(&before)
            .sum(DECISIONS, &[("decision", Counter::Reopened.name())]);
        ensure!(
            reopened >= 18.0,
            "only {reopened} of 18 connections met a TIME_WAIT: the test proves nothing"
        );
        Ok(())
    });
}

#[test]
fn a_source_port_is_taken_up_again_after_the_daemon_died() {
    captured(|shop| {
        for target in [WEB4, WEB6] {
            ask(&shop.client.netns, target)?;
        }
        shop.daemon(0)?.process.kill();
        shop.daemons[0] = None;
        for target in [WEB4, WEB6] {
            ask(&shop.client.netns, target).context("without a daemon")?;
        }
        Ok(())
    });
}

#[test]
fn a_source_port_is_taken_up_again_after_the_label_went() {
    captured(|shop| {
        for target in [WEB4, WEB6] {
            ask(&shop.client.netns, target)?;
        }
        shop.release()?;
        for target in [WEB4, WEB6] {
            ask(&shop.client.netns, target).context("uncaptured")?;
        }
        Ok(())
    });
}
