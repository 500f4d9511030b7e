//! Errors that routers send about the daemon's own connections reach it: an upload through a hop with a smaller MTU does not hang.

use std::{
    io::{Read, Write},
    net::SocketAddr,
};

use anyhow::{Context, Result, ensure};
use mesh_common::counter::Counter;
use mesh_tests::{
    bench::Netns,
    daemon::DECISIONS,
    shop::{ECHO_PORT, HTTP_PORT},
    tcp,
};

use crate::{captured, counting};

/// Below what both ends of the connection know of, and not below what IPv6 asks of every link (RFC 8200, section 5).
const HOP_MTU: u16 = 1300;
/// Far more than fits into any socket's buffers, so that a hole in the path stops it.
const UPLOAD_BYTES: usize = 16 << 20;

/// Echoes an upload; the pod's own port says how it ended.
fn upload_tcp(from: &Netns, target: SocketAddr) -> Result<()> {
    let mut stream = tcp::connect(from, target)?;
    let mut writer = stream.try_clone()?;
    let sending = std::thread::spawn(move || -> Result<()> {
        writer.write_all(&vec![7; UPLOAD_BYTES])?;
        Ok(writer.shutdown(std::net::Shutdown::Write)?)
    });
    let mut back = Vec::new();
    let read = stream.read_to_end(&mut back);
    sending.join().map_err(|_| anyhow::anyhow!("the sender panicked"))??;
    read?;
    let end = format!("eof {UPLOAD_BYTES}\n");
    ensure!(back.ends_with(end.as_bytes()), "{} bytes came back", back.len());
    Ok(())
}

/// The same as the body of a request.
fn upload_http(from: &Netns, target: SocketAddr) -> Result<()> {
    let mut stream = tcp::connect(from, target)?;
    write!(
        stream,
        "POST /echo HTTP/1.1\r\nhost: web\r\nconnection: close\r\ncontent-length: {UPLOAD_BYTES}\r\n\r\n"
    )?;
    let mut writer = stream.try_clone()?;
    let sending = std::thread::spawn(move || writer.write_all(&vec![7; UPLOAD_BYTES]));
    let mut back = Vec::new();
    let read = stream.read_to_end(&mut back);
    sending.join().map_err(|_| anyhow::anyhow!("the sender panicked"))??;
    read?;
    ensure!(back.starts_with(b"HTTP/1.1 200"), "{} bytes came back", back.len());
    ensure!(back.len() > UPLOAD_BYTES, "{} bytes came back", back.len());
    Ok(())
}

#[test]
fn an_upload_behind_a_smaller_hop_arrives() {
    type Upload = fn(&Netns, SocketAddr) -> Result<()>;
    let uploads: [(&str, u16, Upload); 2] = [("web-2", ECHO_PORT, upload_tcp), ("web-3", HTTP_PORT, upload_http)];
    captured(|shop| {
        for (name, port, upload) in uploads {
            // a path's MTU is remembered: each upload goes to a pod of its own. The pod's end does not know of it, so its MSS is too large.
            let pod = shop.server(name)?.pod.clone();
            let lower = format!("link set {} mtu {HOP_MTU}\n", pod.interface);
            shop.bench.nodes[pod.node].netns.ip(&lower)?;
            for ip in pod.ips() {
                let before = shop.daemon(0)?.metrics()?;
                let target = SocketAddr::new(ip, port);
                let (sent, connections) = counting(shop, || Ok(upload(&shop.client.netns, target)))?;
                sent.with_context(|| format!("the upload to {target}"))?;
                ensure!(connections == 1, "{target}: it was not captured");
                let since = shop.daemon(0)?.metrics()?.since(&before);
                let errors = since.sum(DECISIONS, &[("decision", Counter::IcmpError.name())]);
                ensure!(errors > 0.5, "{target}: the hop sent no error, so nothing was tried");
            }
        }
        Ok(())
    });
}
