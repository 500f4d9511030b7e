//! HTTP/1 and HTTP/2: spread, bodies, pools, what is retried and what is not, upgrades, drain.

use std::{cell::Cell, convert::Infallible, net::SocketAddr, rc::Rc};

use bytes::Bytes;
use futures_util::stream::unfold;
use http_body_util::{BodyExt, Full, StreamBody, combinators::BoxBody};
use hyper::{
    HeaderMap, Request, Response,
    body::{Frame, Incoming},
    client::conn,
    header,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use mesh_daemon::{
    model::AppProtocol::{Detect, Http},
    task::LocalExecutor,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::mpsc,
    task::spawn_local,
};

use crate::bench::{Bench, listener, refusing, run, snapshot};

pub(crate) type Body = BoxBody<Bytes, Infallible>;

pub(crate) fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).boxed()
}

/// A body that goes on as the test says, and ends with what it is said by.
pub(crate) fn held() -> (Body, mpsc::UnboundedSender<Frame<Bytes>>) {
    let (frames, receiver) = mpsc::unbounded_channel();
    let stream = unfold(receiver, |mut receiver| async {
        receiver.recv().await.map(|frame| (Ok(frame), receiver))
    });
    (BodyExt::boxed(StreamBody::new(Box::pin(stream))), frames)
}

/// A server that counts: requests, connections.
#[derive(Default)]
pub(crate) struct Seen {
    pub requests: Cell<usize>,
    pub connections: Cell<usize>,
    /// Requests are answered once there have been this many connections.
    pub hold_until: Cell<usize>,
}

/// Echoes each request's body and trailers; speaks both versions.
pub(crate) async fn echo() -> (SocketAddr, Rc<Seen>) {
    let (listener, address) = listener().await;
    let seen = Rc::new(Seen::default());
    spawn_local(accept(listener, Rc::clone(&seen)));
    (address, seen)
}

async fn accept(listener: TcpListener, seen: Rc<Seen>) {
    loop {
        let (socket, _) = listener.accept().await.unwrap();
        seen.connections.set(seen.connections.get() + 1);
        let seen = Rc::clone(&seen);
        spawn_local(async move {
            let mut first = [0; 3];
            while socket.peek(&mut first).await.unwrap_or(3) < 3 {}
            let service = service_fn(move |request| answer(request, Rc::clone(&seen)));
            let io = TokioIo::new(socket);
            if &first == b"PRI" {
                let _ = hyper::server::conn::http2::Builder::new(LocalExecutor)
                    .serve_connection(io, service)
                    .await;
            } else {
                let _ = hyper::server::conn::http1::Builder::new()
                    .serve_connection(io, service)
                    .await;
            }
        });
    }
}

async fn answer(request: Request<Incoming>, seen: Rc<Seen>) -> Result<Response<Incoming>, Infallible> {
    seen.requests.set(seen.requests.get() + 1);
    while seen.connections.get() < seen.hold_until.get() {
        tokio::task::yield_now().await;
    }
    let mut response = Response::new(());
    if let Some(te) = request.headers().get(header::TE) {
        response.headers_mut().insert("x-te", te.clone());
    }
    response
        .headers_mut()
        .insert(header::TRAILER, header::HeaderValue::from_static("x-sum"));
    Ok(response.map(|()| request.into_body()))
}

pub(crate) async fn http1(bench: &Bench) -> conn::http1::SendRequest<Body> {
    let (sender, connection) = conn::http1::handshake(TokioIo::new(bench.connect().await))
        .await
        .unwrap();
    spawn_local(connection.with_upgrades());
    sender
}

pub(crate) async fn http2(bench: &Bench) -> conn::http2::SendRequest<Body> {
    let (sender, connection) = conn::http2::handshake(LocalExecutor, TokioIo::new(bench.connect().await))
        .await
        .unwrap();
    spawn_local(connection);
    sender
}

pub(crate) fn post(body: Body) -> Request<Body> {
    Request::post("http://web.shop/")
        .header(header::HOST, "web.shop")
        .body(body)
        .unwrap()
}

pub(crate) async fn bytes(response: Response<Incoming>) -> Bytes {
    response.into_body().collect().await.unwrap().to_bytes()
}

/// Writes `request`, reads until the connection ends.
async fn raw(bench: &Bench, request: &str) -> String {
    let mut client = bench.connect().await;
    client.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).await.unwrap();
    answer
}

#[test]
fn requests_of_one_connection_spread_over_all_endpoints() {
    run(async {
        let servers = [echo().await, echo().await, echo().await];
        let endpoints = servers.each_ref().map(|(address, _)| *address);
        for protocol in ["http/1.1", "http/2"] {
            let bench = Bench::new(Detect, &endpoints);
            for (_, seen) in &servers {
                seen.requests.set(0);
                seen.connections.set(0);
            }
            if protocol == "http/2" {
                let mut client = http2(&bench).await;
                for _ in 0..300 {
                    let response = client.send_request(post(full("x"))).await.unwrap();
                    assert_eq!(bytes(response).await, "x");
                }
            } else {
                let mut client = http1(&bench).await;
                for _ in 0..300 {
                    client.ready().await.unwrap();
                    let response = client.send_request(post(full("x"))).await.unwrap();
                    assert_eq!(bytes(response).await, "x");
                }
            }
            for (_, seen) in &servers {
                assert_eq!(seen.requests.get(), 100, "{protocol}");
                assert!(
                    seen.connections.get() <= 2,
                    "{protocol}: {} connections",
                    seen.connections.get()
                );
            }
            bench
                .until(
                    "weft_requests_total",
                    &[("protocol", protocol), ("code", "200"), ("reporter", "source")],
                    300.0,
                )
                .await;
        }
    });
}

#[test]
fn bodies_of_all_sizes_pass_byte_for_byte() {
    run(async {
        let (address, _) = echo().await;
        let bench = Bench::new(Detect, &[address]);
        let mut one = http1(&bench).await;
        let mut two = http2(&bench).await;
        for size in [0, 1, 1000, 65_535, 65_536, 1 << 20, 64 << 20] {
            let body: Bytes = (0..size)
                .map(|index: usize| ((index * 31 + index / 977) % 256).try_into().unwrap_or(0))
                .collect();
            one.ready().await.unwrap();
            let response = one.send_request(post(full(body.clone()))).await.unwrap();
            assert!(bytes(response).await == body, "HTTP/1, {size} bytes");
            let response = two.send_request(post(full(body.clone()))).await.unwrap();
            assert!(bytes(response).await == body, "HTTP/2, {size} bytes");
        }
    });
}

#[test]
fn chunks_and_trailers_pass() {
    run(async {
        let (address, _) = echo().await;
        let bench = Bench::new(Detect, &[address]);
        let body = || {
            let trailers: HeaderMap = [(header::HeaderName::from_static("x-sum"), "7".parse().unwrap())]
                .into_iter()
                .collect();
            let frames = [
                Frame::data(Bytes::from("one")),
                Frame::data(Bytes::from("two")),
                Frame::trailers(trailers),
            ];
            BodyExt::boxed(StreamBody::new(Frames(frames.into_iter().map(Ok).collect())))
        };
        let request = || {
            let mut request = post(body());
            request.headers_mut().insert(header::TE, "trailers".parse().unwrap());
            request.headers_mut().insert(header::TRAILER, "x-sum".parse().unwrap());
            request
        };
        let mut one = http1(&bench).await;
        let mut two = http2(&bench).await;
        for response in [
            one.send_request(request()).await.unwrap(),
            two.send_request(request()).await.unwrap(),
        ] {
            assert_eq!(response.headers()["x-te"], "trailers");
            let version = response.version();
            let collected = response.into_body().collect().await.unwrap();
            assert_eq!(
                collected.trailers().unwrap_or_else(|| panic!("{version:?}"))["x-sum"],
                "7"
            );
            assert_eq!(collected.to_bytes(), "onetwo");
        }
    });
}

/// A stream of frames that are ready.
struct Frames(std::collections::VecDeque<Result<Frame<Bytes>, Infallible>>);

impl futures_util::Stream for Frames {
    type Item = Result<Frame<Bytes>, Infallible>;

    fn poll_next(
        mut self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Self::Item>> {
        std::task::Poll::Ready(self.0.pop_front())
    }
}

#[test]
fn an_old_client_and_head_and_expect() {
    run(async {
        let (address, _) = echo().await;
        let bench = Bench::new(Http, &[address]);
        let answer = raw(&bench, "POST / HTTP/1.0\r\nContent-Length: 3\r\n\r\nabc").await;
        assert!(
            answer.starts_with("HTTP/1.0 200") && answer.ends_with("\r\n\r\nabc"),
            "{answer}"
        );
        let answer = raw(&bench, "HEAD / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await;
        assert!(
            answer.starts_with("HTTP/1.1 200") && answer.ends_with("\r\n\r\n"),
            "{answer}"
        );

        let mut client = bench.connect().await;
        let head =
            "POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 3\r\nConnection: close\r\n\r\n";
        client.write_all(head.as_bytes()).await.unwrap();
        let mut go_on = [0; 25];
        client.read_exact(&mut go_on).await.unwrap();
        assert_eq!(&go_on, b"HTTP/1.1 100 Continue\r\n\r\n");
        client.write_all(b"abc").await.unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("abc"), "{answer}");
    });
}

#[test]
fn a_client_that_speaks_after_a_silence_is_still_http() {
    run(async {
        let (server, address) = listener().await;
        let bench = Bench::new(Detect, &[address]);
        let mut client = bench.connect().await;
        // the silence has passed when the upstream was dialled
        let (mut upstream, _) = server.accept().await.unwrap();
        client
            .write_all(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            .await
            .unwrap();
        let mut head = vec![0; 4096];
        let count = upstream.read(&mut head).await.unwrap();
        assert!(
            head[..count].starts_with(b"GET / HTTP/1.1\r\nHost: a\r\n"),
            "names keep their case"
        );
        upstream
            .write_all(b"HTTP/1.1 204 No Content\r\nX-CaSe: Kept\r\n\r\n")
            .await
            .unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        assert!(
            answer.starts_with("HTTP/1.1 204") && answer.contains("X-CaSe: Kept"),
            "{answer}"
        );
        bench.until("weft_requests_total", &[("code", "204")], 1.0).await;
    });
}

#[test]
fn the_mesh_says_why_it_has_no_answer() {
    run(async {
        let refusing = refusing();
        let (address, _) = echo().await;
        let bench = Bench::new(Http, &[]);
        let request = "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
        for (generation, endpoints, status, words) in [
            (2, &[][..], "HTTP/1.1 503", "no ready endpoint"),
            (3, &[refusing][..], "HTTP/1.1 503", "refused"),
            (4, &[refusing, address][..], "HTTP/1.1 200", ""),
        ] {
            bench.shared.publish(snapshot(generation, Http, endpoints));
            let answer = raw(&bench, request).await;
            assert!(answer.starts_with(status) && answer.contains(words), "{answer}");
        }
    });
}

#[test]
fn a_request_that_was_sent_is_never_sent_twice() {
    run(async {
        let (server, address) = listener().await;
        let (other, seen) = echo().await;
        let bench = Bench::new(Http, &[address, other]);
        let asking = raw(&bench, "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        let serving = async {
            let (mut upstream, _) = server.accept().await.unwrap();
            assert_ne!(upstream.read(&mut [0; 4096]).await.unwrap(), 0);
        };
        let (answer, ()) = tokio::join!(asking, serving);
        assert!(answer.starts_with("HTTP/1.1 502"), "{answer}");
        assert_eq!(seen.requests.get(), 0);
        bench.until("weft_requests_total", &[("code", "502")], 1.0).await;
    });
}

#[test]
fn a_request_line_with_a_pause_in_it_is_still_http() {
    run(async {
        let (server, address) = listener().await;
        let bench = Bench::new(Detect, &[address]);
        let mut client = bench.connect().await;
        client.write_all(b"GET / HT").await.unwrap();
        // the pause was noticed when the upstream is dialled
        let (mut upstream, _) = server.accept().await.unwrap();
        client.write_all(b"TP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
        head_of(&mut upstream).await;
        upstream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.unwrap();
        assert!(head_of(&mut client).await.starts_with("HTTP/1.1 204"));
        bench.until("weft_requests_total", &[("code", "204")], 1.0).await;
    });
}

#[test]
fn an_upgrade_becomes_bytes_both_ways() {
    run(async {
        let (server, address) = listener().await;
        let bench = Bench::new(Http, &[address]);
        let mut client = bench.connect().await;
        let head = "GET /chat HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
        client.write_all(head.as_bytes()).await.unwrap();
        let (mut upstream, _) = server.accept().await.unwrap();
        let asked = head_of(&mut upstream).await.to_ascii_lowercase();
        assert!(
            asked.contains("upgrade: websocket") && asked.contains("connection: upgrade"),
            "{asked}"
        );
        let granted = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nhi";
        upstream.write_all(granted).await.unwrap();
        let answer = head_of(&mut client).await.to_ascii_lowercase();
        assert!(
            answer.starts_with("http/1.1 101") && answer.contains("upgrade: websocket"),
            "{answer}"
        );
        let mut word = [0; 2];
        client.read_exact(&mut word).await.unwrap();
        assert_eq!(&word, b"hi");
        client.write_all(b"yo").await.unwrap();
        upstream.read_exact(&mut word).await.unwrap();
        assert_eq!(&word, b"yo");
        drop(client);
        assert_eq!(upstream.read(&mut word).await.unwrap(), 0);
    });
}

/// A server that agreed would be asked whatever the client likes, unseen.
#[test]
fn an_upgrade_to_another_version_of_http_is_not_asked_for() {
    run(async {
        let (server, address) = listener().await;
        let bench = Bench::new(Http, &[address]);
        let mut client = bench.connect().await;
        let head =
            "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n\r\n";
        client.write_all(head.as_bytes()).await.unwrap();
        let (mut upstream, _) = server.accept().await.unwrap();
        let asked = head_of(&mut upstream).await.to_ascii_lowercase();
        assert!(
            !asked.contains("upgrade") && !asked.contains("http2-settings"),
            "{asked}"
        );
        upstream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.unwrap();
        let answer = head_of(&mut client).await;
        assert!(answer.starts_with("HTTP/1.1 204"), "{answer}");
    });
}

/// Reads a message head, byte by byte.
pub(crate) async fn head_of(socket: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(socket.read_u8().await.unwrap());
    }
    String::from_utf8(head).unwrap()
}
