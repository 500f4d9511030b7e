//! A small HTTP/1 server for GET: bounded in connections, header size and time, whoever connects.

use std::{convert::Infallible, future::Future, io, rc::Rc, sync::Arc, time::Duration};

use bytes::Bytes;
use http_body_util::Full;
use hyper::{
    Method, Request, Response, StatusCode,
    body::Incoming,
    header::{ALLOW, CONTENT_TYPE, HeaderValue},
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream, UnixListener, UnixStream},
    sync::Semaphore,
};

use crate::task;

/// Most connections of one listener: a few scrapers, probes and people. More wait in the kernel's backlog.
pub(super) const CONNECTIONS_MAX: usize = 32;
/// How long a client may take for a request's header, and stay idle between two.
pub(super) const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest life of a connection: ends a client that sends but never reads. A scraper just connects again.
const CONNECTION_LIFETIME_MAX: Duration = Duration::from_secs(300);
/// Largest request header in bytes: what a scraper or `curl` sends is below 1 KiB.
const HEADER_BYTES_MAX: usize = 8 * 1024;
/// Rest after an `accept` that failed for want of descriptors, so as not to spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Plain text, for everything but metrics.
pub(super) const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");

/// A request, as far as an answer depends on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Get {
    /// The path.
    pub(super) path: String,
    /// What stands behind the `?`, or nothing.
    pub(super) query: String,
}

/// An answer. `None` instead of it is a 404.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Reply {
    /// The status.
    pub(super) status: StatusCode,
    /// The type of the body.
    pub(super) content_type: HeaderValue,
    /// The body.
    pub(super) body: String,
}

impl Reply {
    /// 200 with plain text.
    pub(super) fn text(body: impl Into<String>) -> Self {
        Self {
            status: StatusCode::OK,
            content_type: TEXT,
            body: body.into(),
        }
    }
}

/// A listening socket, TCP or unix.
pub(super) trait Listener {
    /// A connection.
    type Stream: AsyncRead + AsyncWrite + Unpin + 'static;

    /// The next connection.
    fn next(&self) -> impl Future<Output = io::Result<Self::Stream>>;
}

impl Listener for TcpListener {
    type Stream = TcpStream;

    async fn next(&self) -> io::Result<TcpStream> {
        self.accept().await.map(|(stream, _)| stream)
    }
}

impl Listener for UnixListener {
    type Stream = UnixStream;

    async fn next(&self) -> io::Result<UnixStream> {
        self.accept().await.map(|(stream, _)| stream)
    }
}

/// Answers every connection with `answer`, for ever.
pub(super) async fn serve<L, F>(name: &'static str, listener: L, answer: Rc<F>) -> Infallible
where
    L: Listener,
    F: Fn(&Get) -> Option<Reply> + 'static,
{
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let permit = room.clone().acquire_owned().await;
        let stream = match listener.next().await {
            Ok(stream) => stream,
            Err(error) => {
                tracing::warn!(%error, listener = name, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let answer = answer.clone();
        task::spawn(name, async move {
            let _permit = permit;
            connection(name, stream, answer).await;
        });
    }
}

async fn connection<S, F>(name: &'static str, stream: S, answer: Rc<F>)
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
    F: Fn(&Get) -> Option<Reply> + 'static,
{
    let service = service_fn(move |request: Request<Incoming>| {
        let response = respond(&request, &*answer);
        async move { Ok::<_, Infallible>(response) }
    });
    let serving = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_header_size(HEADER_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), service);
    match tokio::time::timeout(CONNECTION_LIFETIME_MAX, serving).await {
        Ok(Ok(())) => {}
        // scanners and impatient clients: nobody's fault here
        Ok(Err(error)) => tracing::debug!(%error, listener = name, "a connection ended early"),
        Err(_) => tracing::debug!(listener = name, "a connection reached its longest life"),
    }
}

fn respond<B>(request: &Request<B>, answer: &dyn Fn(&Get) -> Option<Reply>) -> Response<Full<Bytes>> {
    // hyper leaves out the body of an answer to HEAD, and keeps its length
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut response = into_response(Reply {
            status: StatusCode::METHOD_NOT_ALLOWED,
            ..Reply::text("use GET or HEAD\n")
        });
        response
            .headers_mut()
            .insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    let get = Get {
        path: request.uri().path().to_owned(),
        query: request.uri().query().unwrap_or_default().to_owned(),
    };
    into_response(answer(&get).unwrap_or_else(|| Reply {
        status: StatusCode::NOT_FOUND,
        ..Reply::text("nothing here; GET / lists what is\n")
    }))
}

fn into_response(reply: Reply) -> Response<Full<Bytes>> {
    let Reply {
        status,
        content_type,
        body,
    } = reply;
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, content_type);
    response
}
