//! Bytes that are no HTTP pass as they are: half-close as half-close, a reset as a reset, silence as silence.

use std::{
    io::{Read, Write},
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use mesh_tests::{
    bench::wait_for,
    client::{self, Version},
    daemon::HANG_GUARD,
    shop::{HTTP_PORT, SERVICE_PORTS, SERVICE_V4, SERVICE_V6, Shop},
    tcp::{self, End},
};

use crate::{captured, counting, report};

fn services(port: u16) -> [SocketAddr; 2] {
    [IpAddr::from(SERVICE_V4), SERVICE_V6.into()].map(|ip| SocketAddr::new(ip, port))
}

/// Both families' echo service.
fn echo_services() -> [SocketAddr; 2] {
    services(SERVICE_PORTS[1])
}

#[test]
fn bytes_pass_unchanged_and_half_close_is_half_close() {
    captured(|shop| {
        for target in echo_services() {
            let (mut stream, connections) = counting(shop, || {
                let mut stream = tcp::connect(&shop.client.netns, target)?;
                tcp::echo(&mut stream, b"first")?;
                Ok(stream)
            })?;
            ensure!(connections == 1, "it was not captured");
            let block: Vec<u8> = (0u8..=250).cycle().take(8 << 20).collect();
            let sent = block.clone();
            let mut writer = stream.try_clone()?;
            let sending = std::thread::spawn(move || -> Result<()> {
                writer.write_all(&sent)?;
                Ok(writer.shutdown(std::net::Shutdown::Write)?)
            });
            let mut back = Vec::new();
            stream.read_to_end(&mut back)?;
            sending.join().map_err(|_| anyhow::anyhow!("the sender panicked"))??;
            let end = format!("eof {}\n", block.len() + 5);
            ensure!(back.len() == block.len() + end.len(), "{} bytes came back", back.len());
            ensure!(
                back.starts_with(&block) && back.ends_with(end.as_bytes()),
                "other bytes came back"
            );
        }
        Ok(())
    });
}

#[test]
fn a_reset_of_the_server_arrives_as_a_reset() {
    captured(|shop| {
        for target in echo_services() {
            let mut stream = tcp::connect(&shop.client.netns, target)?;
            stream.write_all(b"reset")?;
            let end = tcp::read_to_end(&mut stream)?;
            ensure!(end == End::Reset, "{target}: the client saw {end:?}");
        }
        Ok(())
    });
}

/// How many resets all servers saw.
fn resets(shop: &Shop) -> Result<u64> {
    shop.servers.values().try_fold(0, |sum, server| {
        let own = SocketAddr::new(server.pod.v4.into(), HTTP_PORT);
        let answer = client::once(&server.pod.netns, Version::Http1, own, "/counters")?;
        let json: serde_json::Value = serde_json::from_slice(&answer.body)?;
        Ok(sum + json["resets"].as_u64().unwrap_or_default())
    })
}

#[test]
fn a_reset_of_the_client_arrives_as_a_reset() {
    captured(|shop| {
        for target in echo_services() {
            let before = resets(shop)?;
            let mut stream = tcp::connect(&shop.client.netns, target)?;
            tcp::echo(&mut stream, b"hello")?;
            tcp::reset(stream)?;
            wait_for("the server to see a reset", HANG_GUARD, || {
                Ok((resets(shop)? == before + 1).then_some(()))
            })?;
        }
        Ok(())
    });
}

#[test]
fn a_silent_connection_lives_on() {
    captured(|shop| {
        for target in echo_services() {
            let mut stream = tcp::connect(&shop.client.netns, target)?;
            tcp::echo(&mut stream, b"hello")?;
            stream.set_read_timeout(Some(Duration::from_secs(4)))?;
            let end = tcp::read_to_end(&mut stream)?;
            ensure!(end == End::Silent, "{target}: it ended: {end:?}");
            stream.set_read_timeout(Some(tcp::TIMEOUT))?;
            ensure!(tcp::echo(&mut stream, b"still here")? == b"still here");
        }
        Ok(())
    });
}

#[test]
fn a_server_that_speaks_first_is_heard() {
    captured(|shop| {
        for target in services(SERVICE_PORTS[2]) {
            let start = Instant::now();
            let mut stream = tcp::connect(&shop.client.netns, target)?;
            let mut banner = [0; 10];
            stream.read_exact(&mut banner)?;
            report("first byte of a server that speaks first", start.elapsed());
            ensure!(
                banner.starts_with(b"220 web-"),
                "{:?}",
                String::from_utf8_lossy(&banner)
            );
            ensure!(tcp::echo(&mut stream, b"hello")? == b"hello");
        }
        Ok(())
    });
}

#[test]
fn an_application_protocol_of_tcp_needs_no_wait() {
    captured(|shop| {
        if let Some(web) = shop.services.get_mut("web") {
            for port in &mut web.ports[1..] {
                port.app_protocol = Some("tcp".to_owned());
            }
        }
        shop.publish()?;
        wait_for("a banner without the wait of detection", HANG_GUARD, || {
            let start = Instant::now();
            let mut stream = tcp::connect(&shop.client.netns, services(SERVICE_PORTS[2])[0])?;
            stream.read_exact(&mut [0; 8])?;
            // detection waits for 50 ms before it dials
            Ok((start.elapsed() < Duration::from_millis(40)).then_some(()))
        })
    });
}
