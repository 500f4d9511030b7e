//! The three listeners over real sockets: what a scraper, a probe and a person get.

use std::{cell::Cell, path::Path, time::Duration};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpStream, UnixStream},
    task::LocalSet,
};

use super::*;
use crate::{
    config::{AttachMode, KernelSettings},
    ids::NodeName,
    task,
};

const ANY: &str = "127.0.0.1:0";

fn settings(metrics: &str, health: &str, socket: &Path) -> Settings {
    Settings {
        node: NodeName("n".to_owned()),
        source: crate::config::Source::Manifests("/m".into()),
        debounce_after: Duration::ZERO,
        debounce_max: Duration::ZERO,
        pod_cidrs: Vec::new(),
        workers: std::num::NonZeroU32::MIN,
        metrics_addr: metrics.parse().unwrap(),
        health_addr: health.parse().unwrap(),
        admin_socket: socket.to_owned(),
        access_log: false,
        drain_timeout: Duration::ZERO,
        kernel: KernelSettings {
            pin_dir: "/p".into(),
            attach: AttachMode::Auto,
            marks: mesh_common::settings::Settings::DEFAULT_MARKS,
            route_table: 100,
            rule_preference: 8,
        },
    }
}

/// With this snapshot and nothing else.
fn views(snapshot: &'static str) -> Views {
    Views {
        snapshot: Box::new(|| snapshot.to_owned()),
        look: Box::new(|_| Err(NoView::NotYet)),
    }
}

/// Sends one request and reads until the server closes.
async fn ask(mut stream: impl AsyncRead + AsyncWrite + Unpin, method: &str, path: &str) -> String {
    let request = format!("{method} {path} HTTP/1.1\r\nhost: weft\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    text
}

async fn ask_port(addr: SocketAddr, method: &str, path: &str) -> String {
    ask(TcpStream::connect(addr).await.unwrap(), method, path).await
}

#[tokio::test]
async fn what_each_listener_answers() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("admin.sock");
    let bound = bind(&settings(ANY, ANY, &path)).unwrap();
    let (metrics, health) = (bound.metrics_addr().unwrap(), bound.health_addr().unwrap());
    let readiness = Readiness::default();
    let pods = readiness.wait_for("list of Pods");
    let draining = Rc::new(Cell::new(false));
    let local = LocalSet::new();
    local
        .run_until(async {
            let say = draining.clone();
            let serving = bound.serve(Registry::new(), readiness.clone(), views("generation 7"), move || {
                say.get()
            });
            let serving = task::spawn("admin", serving);

            let scrape = ask_port(metrics, "GET", "/metrics").await;
            assert!(scrape.starts_with("HTTP/1.1 200"), "{scrape}");
            assert!(
                scrape.contains("content-type: text/plain; version=0.0.4; charset=utf-8"),
                "{scrape}"
            );
            assert!(
                scrape.contains(&format!(
                    "weft_build_info{{version=\"{}\"}} 1",
                    env!("CARGO_PKG_VERSION")
                )),
                "{scrape}"
            );
            assert!(scrape.contains("\nweft_task_panics_total "), "{scrape}");
            assert!(ask_port(metrics, "GET", "/").await.contains("/metrics"));
            assert!(ask_port(metrics, "GET", "/healthz").await.starts_with("HTTP/1.1 404"));
            let post = ask_port(metrics, "POST", "/metrics").await;
            assert!(
                post.starts_with("HTTP/1.1 405") && post.contains("allow: GET, HEAD"),
                "{post}"
            );
            let head = ask_port(metrics, "HEAD", "/metrics").await;
            assert!(
                head.starts_with("HTTP/1.1 200") && head.contains("content-length: "),
                "{head}"
            );
            assert!(head.ends_with("\r\n\r\n"), "a body: {head}");

            assert!(ask_port(health, "GET", "/healthz").await.starts_with("HTTP/1.1 200"));
            let unready = ask_port(health, "GET", "/readyz").await;
            assert!(
                unready.starts_with("HTTP/1.1 503") && unready.contains("[-]list of Pods"),
                "{unready}"
            );
            drop(pods);
            assert!(ask_port(health, "GET", "/readyz").await.starts_with("HTTP/1.1 200"));
            draining.set(true);
            assert!(ask_port(health, "GET", "/readyz").await.starts_with("HTTP/1.1 503"));
            assert!(ask_port(health, "GET", "/healthz").await.starts_with("HTTP/1.1 200"));

            let snapshot = ask(UnixStream::connect(&path).await.unwrap(), "GET", "/snapshot").await;
            assert!(
                snapshot.starts_with("HTTP/1.1 200") && snapshot.ends_with("generation 7"),
                "{snapshot}"
            );
            assert!(
                ask(UnixStream::connect(&path).await.unwrap(), "GET", "/")
                    .await
                    .contains("/snapshot")
            );

            serving.abort();
            let _ = serving.await;
            assert!(!path.exists());
        })
        .await;
}

#[tokio::test]
async fn garbage_ends_its_own_connection_only() {
    let dir = tempfile::tempdir().unwrap();
    let bound = bind(&settings(ANY, ANY, &dir.path().join("s"))).unwrap();
    let health = bound.health_addr().unwrap();
    let local = LocalSet::new();
    local
        .run_until(async {
            let serving = bound.serve(Registry::new(), Readiness::default(), views(""), || false);
            let serving = task::spawn("admin", serving);
            for garbage in [
                &b"\x16\x03\x01\x02\x00\x01\x00"[..],
                b"GET /healthz HTTP/9.9\r\n\r\n",
                &[b'x'; 64 * 1024],
            ] {
                let mut stream = TcpStream::connect(health).await.unwrap();
                // the server may close, or reset, before it has read everything
                let _ = stream.write_all(garbage).await;
                let _ = stream.shutdown().await;
                let mut answer = Vec::new();
                let _ = stream.read_to_end(&mut answer).await;
                assert!(!answer.starts_with(b"HTTP/1.1 200"), "{garbage:?}");
            }
            assert!(ask_port(health, "GET", "/healthz").await.starts_with("HTTP/1.1 200"));
            serving.abort();
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn a_silent_client_is_closed() {
    let dir = tempfile::tempdir().unwrap();
    let bound = bind(&settings(ANY, ANY, &dir.path().join("s"))).unwrap();
    let health = bound.health_addr().unwrap();
    let local = LocalSet::new();
    local
        .run_until(async {
            let serving = bound.serve(Registry::new(), Readiness::default(), views(""), || false);
            let serving = task::spawn("admin", serving);
            let mut silent = TcpStream::connect(health).await.unwrap();
            silent.write_all(b"GET /healthz HT").await.unwrap();
            let mut answer = Vec::new();
            let closed = tokio::time::timeout(Duration::from_secs(60), silent.read_to_end(&mut answer)).await;
            assert!(closed.is_ok());
            serving.abort();
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn more_connections_than_the_bound_wait_their_turn() {
    let dir = tempfile::tempdir().unwrap();
    let bound = bind(&settings(ANY, ANY, &dir.path().join("s"))).unwrap();
    let health = bound.health_addr().unwrap();
    let local = LocalSet::new();
    local
        .run_until(async {
            let serving = bound.serve(Registry::new(), Readiness::default(), views(""), || false);
            let serving = task::spawn("admin", serving);
            let mut silent = Vec::new();
            for _ in 0..http::CONNECTIONS_MAX {
                silent.push(TcpStream::connect(health).await.unwrap());
            }
            let next = ask_port(health, "GET", "/healthz");
            tokio::pin!(next);
            let early = tokio::time::timeout(http::HEADER_TIMEOUT / 2, &mut next).await;
            assert!(early.is_err(), "served beyond the bound: {early:?}");
            // the silent ones are closed, which makes room
            assert!(next.await.starts_with("HTTP/1.1 200"));
            drop(silent);
            serving.abort();
        })
        .await;
}

#[test]
fn a_port_in_use_is_named_with_its_flag() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("admin.sock");
    let taken = TcpListener::bind(ANY).unwrap();
    let addr = taken.local_addr().unwrap().to_string();
    for (metrics, health, flag) in [
        (addr.as_str(), ANY, "--metrics-addr"),
        (ANY, addr.as_str(), "--health-addr"),
    ] {
        let refused = bind(&settings(metrics, health, &path)).unwrap_err().to_string();
        assert!(refused.contains(&addr) && refused.contains(flag), "{refused}");
        assert!(!path.exists());
    }
}

#[test]
fn an_address_that_cannot_be_bound_says_why() {
    let taken = TcpListener::bind(ANY).unwrap();
    let addr = taken.local_addr().unwrap().to_string();
    for (metrics, part) in [
        // TEST-NET-1 (RFC 5737): no machine has it
        ("192.0.2.1:0", "no interface has this address"),
        (addr.as_str(), "stop what uses the port"),
    ] {
        let text = port("metrics", metrics.parse().unwrap(), "--metrics-addr")
            .unwrap_err()
            .to_string();
        assert!(
            text.contains(part) && text.contains("--metrics-addr"),
            "{metrics}: {text}"
        );
    }
}
