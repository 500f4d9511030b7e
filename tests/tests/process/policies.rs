//! What policies ask for, where a clock must be turned by hand or a client must break off at a certain byte.

use std::{
    cell::Cell,
    collections::BTreeSet,
    io,
    net::{Shutdown, SocketAddr},
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use futures_util::stream::unfold;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::{
    Request, Response,
    body::{Frame, Incoming},
    client::conn,
    header::{CONTENT_LENGTH, HOST},
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use mesh_daemon::{
    ids::ObjectRef,
    model::{
        AppProtocol::Detect, AppliedPolicy, BUDGET_DEFAULT, CircuitBreaker, FailureClass, PolicySpec, RequestSettings,
        RetrySettings, WhenAllOpen,
    },
    task::LocalExecutor,
};
use socket2::SockRef;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::mpsc,
    task::spawn_local,
    time::{pause, resume},
};

use crate::{
    bench::{Bench, listener, reset, run, snapshot},
    http::{full, http1},
};

/// One that opens with the first failure, of whatever kind.
fn breaker() -> CircuitBreaker {
    CircuitBreaker {
        failure_threshold: 1,
        success_threshold: 1,
        timeout: Duration::from_secs(3600),
        half_open_requests: 1,
        failure_on: failures(),
        max_ejection_percent: 100,
        when_all_open: WhenAllOpen::FailFast,
    }
}

fn failures() -> BTreeSet<FailureClass> {
    use FailureClass::{ConnectFailure, Http5xx, Reset, Timeout};
    [ConnectFailure, Http5xx, Reset, Timeout].into()
}

/// One retry after this pause, of everything that fails; a breaker that opens with the first failure, if it is asked for.
fn obey(bench: &Bench, endpoint: SocketAddr, backoff: Duration, breaks: bool) {
    let mut next = Arc::into_inner(snapshot(2, Detect, &[endpoint])).unwrap();
    for upstream in next.content.upstreams.values_mut() {
        let upstream = Arc::get_mut(upstream).unwrap();
        upstream.policy = Some(Arc::new(AppliedPolicy {
            name: ObjectRef::new("shop", "web"),
            generation: 1,
            spec: PolicySpec {
                circuit_breaker: breaks.then(breaker),
                ..PolicySpec::default()
            },
        }));
        upstream.settings = Arc::new(RequestSettings {
            retry: Some(RetrySettings {
                attempts: 1,
                codes: BTreeSet::new(),
                on: failures(),
                backoff,
                budget: BUDGET_DEFAULT,
            }),
            ..RequestSettings::default()
        });
    }
    bench.shared.publish(Arc::new(next));
}

async fn head(socket: &mut TcpStream) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(socket.read_u8().await.unwrap());
    }
}

/// The pause is longer than all attempts of a request may take to connect. Where nothing is ready, the clock goes to the next timer; the next attempt's time
/// would be over, were it not its own.
#[test]
fn a_retry_has_its_own_time_to_connect() {
    run(async {
        let (server, address) = listener().await;
        let bench = Bench::new(Detect, &[address]);
        obey(&bench, address, Duration::from_secs(12), false);
        let mut client = http1(&bench).await;
        let get = Request::get("/").header(HOST, "web").body(full("")).unwrap();
        let asking = spawn_local(async move { client.send_request(get).await.unwrap().status() });
        let (mut first, _) = server.accept().await.unwrap();
        head(&mut first).await;
        pause();
        let failed = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
        first.write_all(failed).await.unwrap();
        drop(first);
        let (mut second, _) = server.accept().await.unwrap();
        resume();
        head(&mut second).await;
        second
            .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
            .await
            .unwrap();
        assert_eq!(asking.await.unwrap(), 200);
    });
}

/// A server that answers once it has the whole body, and how many requests have begun. It speaks the version that it is asked for.
async fn collects(is_http2: bool) -> (SocketAddr, Rc<Cell<u32>>) {
    let (listener, address) = listener().await;
    let begun = Rc::new(Cell::new(0));
    let seen = Rc::clone(&begun);
    spawn_local(async move {
        loop {
            let io = TokioIo::new(listener.accept().await.unwrap().0);
            let seen = Rc::clone(&seen);
            let service = service_fn(move |request: Request<Incoming>| {
                seen.set(seen.get() + 1);
                async {
                    let body = request.into_body().collect().await?.to_bytes();
                    Ok::<_, hyper::Error>(Response::new(Full::new(body)))
                }
            });
            spawn_local(async move {
                let _ = if is_http2 {
                    let http2 = hyper::server::conn::http2::Builder::new(LocalExecutor);
                    http2.serve_connection(io, service).await
                } else {
                    let http1 = hyper::server::conn::http1::Builder::new();
                    http1.serve_connection(io, service).await
                };
            });
        }
    });
    (address, begun)
}

/// How a client leaves amid its body.
#[derive(Clone, Copy, Debug)]
enum Leaves {
    /// HTTP/1.1: its connection is reset.
    Reset,
    /// HTTP/1.1: what follows is no chunk.
    NoChunk,
    /// HTTP/1.1: nothing follows, and it waits for its answer.
    Fin,
    /// HTTP/2: it resets the stream.
    Stream,
    /// HTTP/2: it ends the body before as much has come as it said.
    Short,
    /// HTTP/2: its connection is gone.
    Connection,
}

/// Begins a body of HTTP/1.1, waits until the server has the head, and leaves.
async fn leave_http1(bench: &Bench, begun: &Cell<u32>, leaves: Leaves) {
    let mut client = bench.connect().await;
    let begin = b"PUT / HTTP/1.1\r\nHost: web\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n";
    client.write_all(begin).await.unwrap();
    until_begun(begun).await;
    if matches!(leaves, Leaves::Reset) {
        return reset(client);
    }
    if matches!(leaves, Leaves::Fin) {
        client.shutdown().await.unwrap();
    } else {
        client.write_all(b"no chunk\r\n").await.unwrap();
    }
    // the mesh says what is wrong
    head(&mut client).await;
}

async fn until_begun(begun: &Cell<u32>) {
    while begun.get() == 0 {
        tokio::task::yield_now().await;
    }
}

/// The same of HTTP/2.
async fn leave_http2(bench: &Bench, begun: &Cell<u32>, leaves: Leaves) {
    let (frames, receiver) = mpsc::unbounded_channel::<Result<Frame<Bytes>, io::Error>>();
    let body = unfold(receiver, |mut receiver| async {
        receiver.recv().await.map(|frame| (frame, receiver))
    });
    let body = StreamBody::new(Box::pin(body));
    let socket = bench.connect().await;
    let held = SockRef::from(&socket).try_clone().unwrap();
    let (mut sender, connection) = conn::http2::handshake(LocalExecutor, TokioIo::new(socket))
        .await
        .unwrap();
    spawn_local(connection);
    let mut put = Request::put("http://web/");
    if matches!(leaves, Leaves::Short) {
        put = put.header(CONTENT_LENGTH, "5");
    }
    let put = put.body(body).unwrap();
    let asking = spawn_local(async move { sender.send_request(put).await.is_ok() });
    frames.send(Ok(Frame::data(Bytes::from_static(b"abc")))).unwrap();
    until_begun(begun).await;
    match leaves {
        Leaves::Stream => frames.send(Err(io::Error::other("gone"))).unwrap(),
        Leaves::Short => drop(frames),
        _ => held.shutdown(Shutdown::Both).unwrap(),
    }
    assert!(!asking.await.unwrap(), "an answer to half a body");
}

#[test]
fn a_client_that_leaves_amid_its_body_opens_no_breaker() {
    for leaves in [
        Leaves::Reset,
        Leaves::NoChunk,
        Leaves::Fin,
        Leaves::Stream,
        Leaves::Short,
        Leaves::Connection,
    ] {
        run(async {
            let is_http2 = matches!(leaves, Leaves::Stream | Leaves::Short | Leaves::Connection);
            let (address, begun) = collects(is_http2).await;
            let bench = Bench::new(Detect, &[address]);
            obey(&bench, address, Duration::ZERO, true);
            if is_http2 {
                leave_http2(&bench, &begun, leaves).await;
            } else {
                leave_http1(&bench, &begun, leaves).await;
            }
            let left = [("outcome", "client_reset")];
            bench.until("weft_request_outcomes_total", &left, 1.0).await;
            assert_eq!(
                bench.counter("weft_circuit_breaker_state", &[]),
                0.0,
                "{leaves:?} opened the breaker"
            );
            assert_eq!(
                bench.counter("weft_upstream_requests_total", &[]),
                0.0,
                "{leaves:?} says nothing of the endpoint"
            );
            assert_eq!(begun.get(), 1, "{leaves:?} was tried again");
        });
    }
}
