//! For tests: hyper's client and server, at both ends of a pipe in memory.

use std::{convert::Infallible, error::Error as StdError, future::Future};

use bytes::Bytes;
use hyper::{
    Request, Response,
    body::{Body, Incoming},
    client::conn as client,
    server::conn as server,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use tokio::io::{DuplexStream, duplex};

use crate::{
    proxy::detect::Protocol,
    task::{self, LocalExecutor},
};

/// Both protocols that have a wire.
pub(super) const BOTH: [Protocol; 2] = [Protocol::Http1, Protocol::Http2];

/// Bytes that the pipe holds: few, so that a reader that stops soon stops the writer.
const PIPE_BYTES: usize = 256;

/// A client's connection.
pub(super) enum Sender<B> {
    Http1(client::http1::SendRequest<B>),
    Http2(client::http2::SendRequest<B>),
}

impl<B> Sender<B>
where
    B: Body<Data = Bytes> + Unpin + 'static,
    B::Error: Into<Box<dyn StdError + Send + Sync>>,
{
    async fn over(protocol: Protocol, pipe: DuplexStream) -> Self {
        let pipe = TokioIo::new(pipe);
        if protocol == Protocol::Http2 {
            let (sender, connection) = client::http2::handshake(LocalExecutor, pipe).await.unwrap();
            task::spawn("client", connection);
            Self::Http2(sender)
        } else {
            let (sender, connection) = client::http1::handshake(pipe).await.unwrap();
            task::spawn("client", connection);
            Self::Http1(sender)
        }
    }

    /// Sends a request and waits for the answer's head.
    pub(super) async fn send(&mut self, request: Request<B>) -> hyper::Result<Response<Incoming>> {
        match self {
            Self::Http1(sender) => sender.send_request(request).await,
            Self::Http2(sender) => sender.send_request(request).await,
        }
    }
}

/// Serves one connection by `answer`, and hands back its client's end.
pub(super) async fn serve<A, F, Q, P>(protocol: Protocol, answer: A) -> Sender<Q>
where
    A: Fn(Request<Incoming>) -> F + 'static,
    F: Future<Output = Response<P>> + 'static,
    P: Body<Data = Bytes> + 'static,
    P::Error: Into<Box<dyn StdError + Send + Sync>>,
    Q: Body<Data = Bytes> + Unpin + 'static,
    Q::Error: Into<Box<dyn StdError + Send + Sync>>,
{
    let (here, there) = duplex(PIPE_BYTES);
    let there = TokioIo::new(there);
    let service = service_fn(move |request| {
        let answer = answer(request);
        async { Ok::<_, Infallible>(answer.await) }
    });
    if protocol == Protocol::Http2 {
        let connection = server::http2::Builder::new(LocalExecutor).serve_connection(there, service);
        task::spawn("server", connection);
    } else {
        let connection = server::http1::Builder::new().serve_connection(there, service);
        task::spawn("server", connection);
    }
    Sender::over(protocol, here).await
}
