//! A small server for tests and the demo: HTTP/1.1 and HTTP/2 on one port, answering its pod's name; a port that echoes bytes; a port that
//! speaks first.

use std::{
    convert::Infallible,
    net::{Ipv6Addr, SocketAddr},
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use anyhow::Result;
use bytes::Bytes;
use clap::Parser;
use http_body_util::{BodyExt, Full, StreamBody, combinators::BoxBody};
use hyper::{Method, Request, Response, StatusCode, body::Frame, body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
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
        let service = service_fn(move |request| async move { Ok::<_, Infallible>(respond(args, peer, request).await) });
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

type Body = BoxBody<Bytes, hyper::Error>;

async fn respond(args: &Args, peer: SocketAddr, request: Request<Incoming>) -> Response<Body> {
    let path = request.uri().path().to_owned();
    let rest = |prefix: &str| path.strip_prefix(prefix).and_then(|rest| rest.parse::<u64>().ok());
    if path == "/echo" && request.method() == Method::POST {
        return Response::new(request.into_body().boxed());
    }
    if path == "/whoami" {
        let json =
            serde_json::json!({"pod": args.name, "remote": peer.ip(), "version": format!("{:?}", request.version())});
        return text(format!("{json}\n"));
    }
    if path == "/counters" {
        let json = serde_json::json!({"resets": RESETS.load(Ordering::Relaxed), "ends": ENDS.load(Ordering::Relaxed)});
        return text(format!("{json}\n"));
    }
    if let Some(count) = rest("/bytes/") {
        return bytes(count);
    }
    if let Some(ms) = rest("/slow/") {
        tokio::time::sleep(Duration::from_millis(ms)).await;
        return text(format!("{}\n", args.name));
    }
    if let Some(code) = rest("/status/").and_then(|code| StatusCode::from_u16(u16::try_from(code).ok()?).ok()) {
        let mut response = text(format!("{}\n", args.name));
        *response.status_mut() = code;
        return response;
    }
    text(format!("{}\n", args.name))
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
