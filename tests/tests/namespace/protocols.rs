//! `appProtocol` is taken at its word: `http` and `kubernetes.io/h2c` from the connection's first byte on.

use std::{
    io::{ErrorKind, Read, Write},
    net::SocketAddr,
    time::Duration,
};

use anyhow::{Result, ensure};
use mesh_tests::{
    bench::wait_for,
    client::{Load, Version},
    daemon::{HANG_GUARD, REQUESTS},
    shop::{SERVICE_PORTS, SERVICE_V4, SERVICE_V6, Shop, WEB4, WEB6, to_count},
    tcp,
};

use crate::{all_answered, captured};

/// Several times the silence after which detection dials the server, which would then be heard.
const SILENCE: Duration = Duration::from_millis(400);

fn declare(shop: &mut Shop, protocol: &str) -> Result<()> {
    for port in &mut shop
        .services
        .get_mut("web")
        .into_iter()
        .flat_map(|web| &mut web.ports)
        .collect::<Vec<_>>()
    {
        port.app_protocol = Some(protocol.to_owned());
    }
    shop.publish()
}

/// What the client of a server that speaks first hears while it is silent itself.
fn heard(shop: &Shop, target: SocketAddr) -> Result<(std::net::TcpStream, Vec<u8>)> {
    let mut stream = tcp::connect(&shop.client.netns, target)?;
    stream.set_read_timeout(Some(SILENCE))?;
    let mut heard = vec![0; 64];
    let count = match stream.read(&mut heard) {
        Ok(count) => count,
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => 0,
        Err(error) => return Err(error.into()),
    };
    heard.truncate(count);
    stream.set_read_timeout(Some(tcp::TIMEOUT))?;
    Ok((stream, heard))
}

fn taken_at_its_word(protocol: &str, version: Version, label: &str) {
    captured(|shop| {
        let banner = [SERVICE_V4.into(), SERVICE_V6.into()].map(|ip| SocketAddr::new(ip, SERVICE_PORTS[2]));
        ensure!(
            heard(shop, banner[0])?.1.starts_with(b"220 "),
            "undeclared, a server that speaks first is heard"
        );
        declare(shop, protocol)?;
        for target in banner {
            wait_for("the declaration to be known", HANG_GUARD, || {
                Ok((!heard(shop, target)?.1.starts_with(b"220 ")).then_some(()))
            })?;
        }
        for target in [WEB4, WEB6] {
            for load in [Load::fresh(version, target), Load::reused(version, target)] {
                let before = shop.metrics()?;
                all_answered(&shop.send(&load, 30)?)?;
                let by = shop.counted_since(&before, 30)?.by(REQUESTS, "protocol", &[]);
                let by: Vec<_> = by.iter().filter(|(_, count)| **count > 0.0).collect();
                ensure!(
                    by.len() == 1 && by[0].0 == label && to_count(*by[0].1) == 30,
                    "{load:?}: counted as {by:?}"
                );
            }
        }
        if version == Version::Http1 {
            let (mut stream, _) = heard(shop, WEB4)?;
            stream.write_all(b"this is no request\r\n\r\n")?;
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer)?;
            ensure!(
                answer.starts_with(b"HTTP/1.1 400"),
                "{:?}",
                String::from_utf8_lossy(&answer)
            );
        }
        Ok(())
    });
}

#[test]
fn an_application_protocol_of_http_is_http_1_without_a_look() {
    taken_at_its_word("http", Version::Http1, "http/1.1");
}

#[test]
fn an_application_protocol_of_h2c_is_http_2_without_a_look() {
    taken_at_its_word("kubernetes.io/h2c", Version::Http2, "http/2");
}
