//! Bytes that are no HTTP on a routed port: they go to the Service's own endpoints, and are counted.

use std::{
    io::{BufRead as _, BufReader},
    net::SocketAddr,
};

use anyhow::{Result, ensure};
use mesh_tests::{
    manifests::Port,
    shop::{BANNER_PORT, ECHO_PORT, Shop, to_count},
    tcp,
};

use super::{add_service, addresses, apply, routed, service};

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
        }
        Ok(())
    });
}
