//! A small server for tests and the demo: HTTP/1.1 and HTTP/2 on one port, answering its pod's name; a port that echoes bytes; a port that
//! speaks first.

use std::{
    net::{Ipv6Addr, SocketAddr},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::Result;
use bytes::Bytes;
use clap::Parser;
use futures_util::StreamExt as _;
use http_body_util::{BodyExt, Full, StreamBody, combinators::BoxBody};
use hyper::{
    HeaderMap, Method, Request, Response, StatusCode, body::Frame, body::Incoming, header::HeaderName,
    service::service_fn,
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use serde::Deserialize;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    signal::unix::{SignalKind, signal},
};

/// Connections that wait for accept: more than any test opens at once.
const BACKLOG: i32 = 4096;
/// Bytes that are echoed or sent at once.
const CHUNK_BYTES: usize = 64 * 1024;
/// The pattern of `/bytes`: byte i is i modulo this prime, so that lost or doubled blocks shift it.
const PATTERN_MODULUS: usize = 251;
/// Connections of the echo port that were reset by the client.
static RESETS: AtomicU64 = AtomicU64::new(0);
/// Connections of the echo port that were ended in order by the client.
static ENDS: AtomicU64 = AtomicU64::new(0);

/// Requests that were answered as the behaviour says.
static SERVED: AtomicU64 = AtomicU64::new(0);
/// How requests are answered.
static BEHAVIOUR: Mutex<Behaviour> = Mutex::new(Behaviour::WELL);

/// How requests are answered that ask for nothing of their own: `PUT /behaviour` sets it, as JSON.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Behaviour {
    /// Time before the head, in milliseconds.
    delay_ms: u64,
    /// Time between the head and the body, in milliseconds.
    body_delay_ms: u64,
    /// The status.
    status: u16,
    /// Whether the connection breaks off instead of an answer.
    reset: bool,
    /// Whether it breaks off amid the body.
    cut: bool,
    /// The grpc-status of gRPC calls.
    grpc_status: u8,
    /// Whether a bad grpc-status follows a message, as a good one does.
    grpc_message: bool,
    /// For so many requests; then it is well again. 0: for ever.
    times: u64,
}

impl Behaviour {
    const WELL: Self = Self {
        delay_ms: 0,
        body_delay_ms: 0,
        status: 200,
        reset: false,
        cut: false,
        grpc_status: 0,
        grpc_message: false,
        times: 0,
    };

    /// For the next request.
    fn next() -> Self {
        let mut kept = BEHAVIOUR.lock().unwrap_or_else(PoisonError::into_inner);
        let now = *kept;
        match kept.times {
            0 => {}
            1 => *kept = Self::WELL,
            _ => kept.times -= 1,
        }
        now
    }
}

impl Default for Behaviour {
    fn default() -> Self {
        Self::WELL
    }
}

/// Breaks a connection off.
#[derive(Debug, thiserror::Error)]
#[error("on purpose")]
struct OnPurpose;

/// Answers its pod's name.
#[derive(Debug, Parser)]
struct Args {
    /// The pod's name.
    #[arg(long)]
    name: String,
    /// HTTP/1.1 and HTTP/2 with prior knowledge.
    #[arg(long, default_value_t = 8080)]
    port: u16,
    /// Echoes bytes; after the client's end of file says `eof N`; a connection that starts with `reset` is reset.
    #[arg(long)]
    tcp_port: Option<u16>,
    /// Says `220 NAME` first, then echoes.
    #[arg(long)]
    banner_port: Option<u16>,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let args: &'static Args = Box::leak(Box::new(Args::parse()));
    if let Some(port) = args.tcp_port {
        tokio::spawn(accept(listen(port)?, |stream, _| async {
            let _ = echo(stream).await;
        }));
    }
    if let Some(port) = args.banner_port {
        tokio::spawn(accept(listen(port)?, |stream, _| async {
            let _ = banner(stream, &args.name).await;
        }));
    }
    let http = accept(listen(args.port)?, |stream, peer| async move {
        let service = service_fn(move |request| respond(args, peer, request));
        let builder = auto::Builder::new(TokioExecutor::new());
        if let Err(error) = builder.serve_connection(TokioIo::new(stream), service).await {
            eprintln!("connection from {peer}: {error}");
        }
    });
    // the first process of a container dies of no signal that it does not handle
    let mut ended = signal(SignalKind::terminate())?;
    tokio::select! {
        () = http => {}
        _ = ended.recv() => {}
    }
    Ok(())
}

fn listen(port: u16) -> Result<TcpListener> {
    let socket = Socket::new(Domain::IPV6, Type::STREAM, Some(Protocol::TCP))?;
    socket.set_only_v6(false)?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)).into())?;
    socket.listen(BACKLOG)?;
    Ok(TcpListener::from_std(socket.into())?)
}

async fn accept<F, Fut>(listener: TcpListener, serve: F)
where
    F: Fn(TcpStream, SocketAddr) -> Fut,
    Fut: Future<Output = ()> + Send + 'static,
{
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                let _ = stream.set_nodelay(true);
                tokio::spawn(serve(stream, SocketAddr::new(peer.ip().to_canonical(), peer.port())));
            }
            Err(error) => eprintln!("accept: {error}"),
        }
    }
}

type Body = BoxBody<Bytes, OnPurpose>;

async fn respond(args: &Args, peer: SocketAddr, request: Request<Incoming>) -> Result<Response<Body>, OnPurpose> {
    if request.uri().path() == "/behaviour" {
        let body = request.into_body().collect().await.map_err(|_| OnPurpose)?;
        let told = serde_json::from_slice(&body.to_bytes());
        return Ok(match told {
            Ok(behaviour) => {
                *BEHAVIOUR.lock().unwrap_or_else(PoisonError::into_inner) = behaviour;
                text("noted\n".to_owned())
            }
            Err(error) => status(StatusCode::BAD_REQUEST, format!("{error}\n")),
        });
    }
    if let Some(answer) = own_path(args, peer, &request).await {
        return Ok(answer);
    }
    if request.uri().path() == "/echo" && request.method() == Method::POST {
        let body = request.into_body();
        return Ok(Response::new(body.map_err(|_| OnPurpose).boxed()));
    }
    SERVED.fetch_add(1, Ordering::Relaxed);
    let behaviour = Behaviour::next();
    let (head, body) = request.into_parts();
    let asked = body.collect().await.map_err(|_| OnPurpose)?.to_bytes();
    tokio::time::sleep(Duration::from_millis(behaviour.delay_ms)).await;
    if behaviour.reset {
        return Err(OnPurpose);
    }
    if head
        .headers
        .get("content-type")
        .is_some_and(|value| value == "application/grpc")
    {
        return Ok(with_asked_headers(grpc(args, behaviour), &head));
    }
    let answer = if head.headers.contains_key("x-echo") {
        echoed(args, peer, &head, &asked)
    } else {
        format!("{}\n", args.name)
    };
    let code = StatusCode::from_u16(behaviour.status).unwrap_or(StatusCode::IM_A_TEAPOT);
    let response = match (behaviour.body_delay_ms, behaviour.cut) {
        (0, false) => status(code, answer),
        (pause, cut) => in_two(code, answer, Duration::from_millis(pause), cut),
    };
    Ok(with_asked_headers(response, &head))
}

/// The answer with the headers that the request asks for: `answer-x-a: 1` brings `x-a: 1`. With `answer-content-length` a body that comes in two
/// halves is one of a known length.
fn with_asked_headers(mut response: Response<Body>, head: &hyper::http::request::Parts) -> Response<Body> {
    for (name, value) in &head.headers {
        let asked = name.as_str().strip_prefix("answer-");
        if let Some(Ok(name)) = asked.map(|name| HeaderName::from_bytes(name.as_bytes())) {
            response.headers_mut().append(name, value.clone());
        }
    }
    response
}

/// What the client asked, for a test to compare.
fn echoed(args: &Args, peer: SocketAddr, head: &hyper::http::request::Parts, body: &[u8]) -> String {
    let headers: serde_json::Map<String, serde_json::Value> = head
        .headers
        .keys()
        .map(|name| {
            let values = head.headers.get_all(name).iter();
            let values: Vec<_> = values.map(|value| String::from_utf8_lossy(value.as_bytes())).collect();
            (name.to_string(), values.join(",").into())
        })
        .collect();
    let json = serde_json::json!({
        "pod": args.name,
        "remote": peer.ip(),
        "version": format!("{:?}", head.version),
        "method": head.method.as_str(),
        "uri": head.uri.to_string(),
        "headers": headers,
        "body": String::from_utf8_lossy(body),
    });
    format!("{json}\n")
}

/// The body in two halves with a pause between them; of one that is cut only the first.
fn in_two(code: StatusCode, answer: String, pause: Duration, cut: bool) -> Response<Body> {
    let answer = Bytes::from(answer);
    let (first, second) = (answer.slice(..answer.len() / 2), answer.slice(answer.len() / 2..));
    let frames = futures_util::stream::unfold(0, move |step| {
        let (first, second) = (first.clone(), second.clone());
        async move {
            match step {
                0 => Some((Ok(Frame::data(first)), 1)),
                1 => {
                    tokio::time::sleep(pause).await;
                    let frame = if cut { Err(OnPurpose) } else { Ok(Frame::data(second)) };
                    Some((frame, 2))
                }
                _ => None,
            }
        }
    });
    let mut response = Response::new(BodyExt::boxed(StreamBody::new(Box::pin(frames))));
    *response.status_mut() = code;
    response
}

/// One message, the pod's name, and after the pause between head and body the status; a bad status alone (gRPC over HTTP/2, "Trailers-Only"), unless the
/// behaviour says that there is a message.
fn grpc(args: &Args, behaviour: Behaviour) -> Response<Body> {
    let code = behaviour.grpc_status;
    let mut response = if code == 0 || behaviour.grpc_message {
        let name = args.name.as_bytes();
        let length = u32::try_from(name.len()).unwrap_or_default().to_be_bytes();
        let message = [&[0], &length[..], name].concat();
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", u16::from(code).into());
        let message = futures_util::stream::iter([Ok(Frame::data(Bytes::from(message)))]);
        let status = futures_util::stream::once(async move {
            tokio::time::sleep(Duration::from_millis(behaviour.body_delay_ms)).await;
            Ok(Frame::trailers(trailers))
        });
        Response::new(BodyExt::boxed(StreamBody::new(Box::pin(message.chain(status)))))
    } else {
        let mut response = text(String::new());
        response.headers_mut().insert("grpc-status", u16::from(code).into());
        response
    };
    let kind = hyper::header::HeaderValue::from_static("application/grpc");
    response.headers_mut().insert("content-type", kind);
    response
}

/// Paths with an answer of their own, whatever the behaviour.
async fn own_path(args: &Args, peer: SocketAddr, request: &Request<Incoming>) -> Option<Response<Body>> {
    let path = request.uri().path().to_owned();
    let rest = |prefix: &str| path.strip_prefix(prefix).and_then(|rest| rest.parse::<u64>().ok());
    if path == "/whoami" {
        let json =
            serde_json::json!({"pod": args.name, "remote": peer.ip(), "version": format!("{:?}", request.version())});
        return Some(text(format!("{json}\n")));
    }
    if path == "/counters" {
        let json = serde_json::json!({"resets": RESETS.load(Ordering::Relaxed), "ends": ENDS.load(Ordering::Relaxed), "served": SERVED.load(Ordering::Relaxed)});
        return Some(text(format!("{json}\n")));
    }
    if let Some(count) = rest("/bytes/") {
        return Some(bytes(count));
    }
    if let Some(ms) = rest("/slow/") {
        tokio::time::sleep(Duration::from_millis(ms)).await;
        return Some(text(format!("{}\n", args.name)));
    }
    if let Some(code) = rest("/status/").and_then(|code| StatusCode::from_u16(u16::try_from(code).ok()?).ok()) {
        return Some(status(code, format!("{}\n", args.name)));
    }
    None
}

fn status(code: StatusCode, body: String) -> Response<Body> {
    let mut response = text(body);
    *response.status_mut() = code;
    response
}

fn text(text: String) -> Response<Body> {
    Response::new(Full::new(Bytes::from(text)).map_err(|never| match never {}).boxed())
}

fn bytes(count: u64) -> Response<Body> {
    let block: Vec<u8> = (0u8..=250)
        .cycle()
        .take(CHUNK_BYTES / PATTERN_MODULUS * PATTERN_MODULUS)
        .collect();
    let block = Bytes::from(block);
    let size = block.len() as u64;
    let chunks = (0..count.div_ceil(size)).map(move |index| {
        let length = usize::try_from((count - index * size).min(size)).unwrap_or(block.len());
        Ok(Frame::data(block.slice(..length)))
    });
    let mut response = Response::new(BodyExt::boxed(StreamBody::new(futures_util::stream::iter(chunks))));
    response.headers_mut().insert("content-length", count.into());
    response
}

async fn echo(mut stream: TcpStream) -> std::io::Result<()> {
    let mut buffer = vec![0; CHUNK_BYTES];
    let mut total = 0;
    loop {
        let count = match stream.read(&mut buffer).await {
            Ok(count) => count,
            Err(error) => {
                RESETS.fetch_add(1, Ordering::Relaxed);
                return Err(error);
            }
        };
        if count == 0 {
            ENDS.fetch_add(1, Ordering::Relaxed);
            stream.write_all(format!("eof {total}\n").as_bytes()).await?;
            return stream.shutdown().await;
        }
        if total == 0 && buffer.starts_with(b"reset") {
            return socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO));
        }
        total += count;
        stream.write_all(&buffer[..count]).await?;
    }
}

async fn banner(mut stream: TcpStream, name: &str) -> std::io::Result<()> {
    stream.write_all(format!("220 {name}\n").as_bytes()).await?;
    echo(stream).await
}
