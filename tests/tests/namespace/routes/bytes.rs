//! Connections to a routed port that do not begin with a request: bytes that are no HTTP go to the Service's own endpoints and are counted, and
//! who begins late is routed all the same.

use std::{
    io::{BufRead as _, BufReader, ErrorKind, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use anyhow::{Result, ensure};
use mesh_tests::{
    bench::wait_for,
    client::{Load, Version},
    daemon::HANG_GUARD,
    manifests::Port,
    shop::{BANNER_PORT, ECHO_PORT, HTTP_PORT, Shop, to_count},
    tcp::{self, End},
};

use super::{WEB, add_service, addresses, apply, ask, at, routed, service};

/// Connections to routed ports that did not speak HTTP.
const COUNTED: &str = "weft_opaque_on_routed_port_total";

const ROUTE: &str = "
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: bytes, namespace: shop}
spec:
  parentRefs: [{group: '', kind: Service, name: bytes}]
  rules: [{backendRefs: [{name: elsewhere, port: 80}]}]
";

/// Several times the silence after which the daemon looks whether the server speaks first.
const SILENCE: Duration = Duration::from_millis(400);

/// How many connections were counted meanwhile.
fn counted(shop: &Shop, work: impl FnOnce() -> Result<()>) -> Result<u64> {
    let before = shop.metrics()?;
    work()?;
    Ok(to_count(shop.metrics()?.since(&before).sum(COUNTED, &[])))
}

#[test]
fn they_go_to_the_services_own_endpoints_and_are_counted() {
    routed(|shop| {
        add_service(shop, "elsewhere", 1, &["web-3"])?;
        let mut bytes = service(shop, "bytes", 2, &["web-1"])?;
        bytes.ports = vec![Port::new("echo", 81, ECHO_PORT), Port::new("banner", 82, BANNER_PORT)];
        bytes.ports.push(Port {
            app_protocol: Some("tcp".to_owned()),
            ..Port::new("tcp", 83, HTTP_PORT)
        });
        shop.services.insert("bytes".to_owned(), bytes);
        shop.publish()?;
        apply(shop, ROUTE)?;
        for ip in addresses(2) {
            let connections = counted(shop, || {
                let mut stream = tcp::connect(&shop.client.netns, SocketAddr::new(ip, 81))?;
                let back = tcp::echo(&mut stream, b"no HTTP\r\n\r\n")?;
                ensure!(back == b"no HTTP\r\n\r\n", "{back:?}");
                ensure!(tcp::finish(&mut stream)? == b"eof 11\n");
                Ok(())
            })?;
            ensure!(connections == 1, "{ip}: {connections} were counted");
            let connections = counted(shop, || {
                let stream = tcp::connect(&shop.client.netns, SocketAddr::new(ip, 82))?;
                let mut banner = String::new();
                BufReader::new(stream).read_line(&mut banner)?;
                ensure!(banner == "220 web-1\n", "{ip}: {banner:?}");
                Ok(())
            })?;
            ensure!(connections == 1, "{ip}: {connections} were counted");
            // its `appProtocol` says that what looks like HTTP is none: it takes no routes, and so is no routed port
            let connections = counted(shop, || {
                let answer = ask(shop, &Load::fresh(Version::Http1, SocketAddr::new(ip, 83)))?;
                ensure!(answer.text() == "web-1", "{ip}: {answer:?}");
                Ok(())
            })?;
            ensure!(connections == 0, "{ip}: {connections} were counted");
        }
        Ok(())
    });
}

/// Everything to `elsewhere`, from a Service with endpoints of its own and one without.
const LATE: &str = "
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: late, namespace: shop}
spec:
  parentRefs: [{group: '', kind: Service, name: web, port: 80}, {group: '', kind: Service, name: hollow}]
  rules: [{backendRefs: [{name: elsewhere, port: 80}]}]
";

/// A connection on which neither side has said anything for so long that the daemon has dialled, if it could.
fn silent(shop: &Shop, target: SocketAddr) -> Result<TcpStream> {
    let mut stream = tcp::connect(&shop.client.netns, target)?;
    stream.set_read_timeout(Some(SILENCE))?;
    match stream.read(&mut [0; 1]) {
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
        other => anyhow::bail!("{target}: not silent: {other:?}"),
    }
    stream.set_read_timeout(Some(tcp::TIMEOUT))?;
    Ok(stream)
}

/// The shop with [`LATE`], `hollow` captured.
fn with_hollow(story: impl FnOnce(&mut Shop) -> Result<()>) {
    routed(|shop| {
        add_service(shop, "elsewhere", 1, &["web-3"])?;
        add_service(shop, "hollow", 2, &[])?;
        apply(shop, LATE)?;
        for target in at(2) {
            wait_for("the hollow service to be captured", HANG_GUARD, || {
                let answer = ask(shop, &Load::fresh(Version::Http1, target))?;
                Ok((answer.status == 200).then_some(()))
            })?;
        }
        story(shop)
    });
}

#[test]
fn a_request_after_a_silence_is_routed() {
    with_hollow(|shop| {
        for target in WEB.into_iter().chain(at(2)) {
            let mut stream = silent(shop, target)?;
            stream.write_all(b"GET / HTTP/1.1\r\nhost: web\r\nconnection: close\r\n\r\n")?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer)?;
            ensure!(
                answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("web-3\n"),
                "{target}: {answer:?}"
            );
        }
        Ok(())
    });
}

#[test]
fn bytes_for_a_service_without_endpoints_of_its_own_are_reset() {
    with_hollow(|shop| {
        for target in at(2) {
            let mut stream = tcp::connect(&shop.client.netns, target)?;
            stream.write_all(b"no HTTP\r\n\r\n")?;
            let end = tcp::read_to_end(&mut stream)?;
            ensure!(end == End::Reset, "{target}: {end:?}");
        }
        Ok(())
    });
}

#[test]
fn a_route_that_comes_during_a_silence_holds_for_the_first_request_after_it() {
    routed(|shop| {
        add_service(shop, "elsewhere", 1, &["web-3"])?;
        for target in WEB {
            let mut stream = silent(shop, target)?;
            apply(shop, LATE)?;
            stream.write_all(b"GET / HTTP/1.1\r\nhost: web\r\nconnection: close\r\n\r\n")?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer)?;
            ensure!(answer.ends_with("web-3\n"), "{target}: {answer:?}");
            super::delete(shop, "late")?;
        }
        Ok(())
    });
}
