//! The upstream's side: hyper's client connections, and the loop that finds one which takes the request.

use std::{io, rc::Rc, sync::Arc};

use bytes::Bytes;
use hyper::{
    Request, Response,
    body::Incoming,
    client::conn::{http1, http2},
};
use hyper_util::rt::TokioTimer;
use tokio::{net::TcpStream, time::Instant};

use crate::{
    proxy::{
        Worker,
        bounds::{
            HTTP1_BUFFER_BYTES, HTTP1_HEADERS, HTTP2_CONNECTION_WINDOW_BYTES, HTTP2_HEADER_LIST_BYTES,
            HTTP2_SEND_BYTES, HTTP2_STREAM_WINDOW_BYTES, POOL_STALE_TRIES,
        },
        detect::Protocol,
        dial,
        identify::Connection,
        outcome::Failure,
        pool::{Lease, Pool},
        route::{Candidate, Plan},
        socket::{self, Stream},
    },
    task::{self, LocalExecutor},
};

/// An answer, and the connection that it still occupies.
pub(super) struct Answer {
    pub(super) response: Response<Incoming>,
    pub(super) lease: Lease,
    pub(super) candidate: Candidate,
}

/// How one try ended without an answer.
#[expect(
    clippy::large_enum_variant,
    reason = "it moves up one frame, once: an allocation costs more"
)]
enum Untaken {
    /// Nothing was sent: the request may go elsewhere.
    Whole(Request<Incoming>, Failure),
    /// It was sent, at least in part, and may have had its effect.
    Sent(Failure),
}

/// Sends a request to the first candidate that takes it. What has been sent once, even in part, is never sent again.
pub(super) async fn send(
    worker: &Rc<Worker>,
    client: &Connection,
    protocol: Protocol,
    plan: &Plan,
    early: Option<(Arc<TcpStream>, Candidate)>,
    mut request: Request<Incoming>,
) -> Result<Answer, Failure> {
    let until = dial::deadline();
    let mut failure = Failure::NoEndpoint;
    let early = early
        .filter(|(socket, _)| socket::is_idle(socket))
        .map(|(socket, candidate)| (Some(socket), candidate));
    let planned = plan.candidates().map(|candidate| (None, candidate));
    for (socket, candidate) in early.into_iter().chain(planned) {
        match ask(worker, client, protocol, &candidate, socket, until, request).await {
            Ok((response, lease)) => {
                return Ok(Answer {
                    response,
                    lease,
                    candidate,
                });
            }
            Err(Untaken::Sent(failure)) => return Err(failure),
            Err(Untaken::Whole(whole, why)) => (request, failure) = (whole, why),
        }
        if Instant::now() >= until {
            break;
        }
    }
    Err(failure)
}

/// Asks one endpoint; a pooled connection that turns out to be closed is replaced, in the end by a fresh one.
async fn ask(
    worker: &Rc<Worker>,
    client: &Connection,
    protocol: Protocol,
    to: &Candidate,
    mut early: Option<Arc<TcpStream>>,
    until: Instant,
    mut request: Request<Incoming>,
) -> Result<(Response<Incoming>, Lease), Untaken> {
    let mut tries = 0;
    loop {
        let fresh = tries >= POOL_STALE_TRIES;
        let lease = match (protocol, early.take()) {
            (Protocol::Http2, early) => Pool::http2(worker, client, to, early, until).await,
            (_, Some(socket)) => Pool::http1_over(worker, client, to, socket).await,
            (_, None) => Pool::http1(worker, client, to, fresh, until).await,
        };
        let mut lease = match lease {
            Ok(lease) => lease,
            Err(error) => return Err(Untaken::Whole(request, Failure::Connect(to.address, error))),
        };
        let mut error = match lease.send(request).await {
            Ok(response) => return Ok((response, lease)),
            Err(error) => error,
        };
        let Some(whole) = error.take_message() else {
            let error = error.into_error();
            // to hyper's client the body is its user's: here that is the client
            return Err(Untaken::Sent(if error.is_user() {
                Failure::Unfinished(error)
            } else {
                Failure::Unanswered(to.address, error)
            }));
        };
        worker.shared.metrics.stale("when_sent");
        if fresh {
            return Err(Untaken::Whole(
                whole,
                Failure::Connect(to.address, io::Error::other(error.into_error())),
            ));
        }
        request = whole;
        tries += 1;
    }
}

/// HTTP/1 over a connected socket.
pub(in crate::proxy) async fn http1(socket: Arc<TcpStream>) -> io::Result<http1::SendRequest<Incoming>> {
    let stream = Stream {
        first: Bytes::new(),
        socket,
    };
    let mut builder = http1::Builder::new();
    builder
        .preserve_header_case(true)
        .max_headers(HTTP1_HEADERS)
        .max_buf_size(HTTP1_BUFFER_BYTES);
    let (sender, connection) = builder.handshake(stream).await.map_err(io::Error::other)?;
    task::spawn("upstream", async move {
        if let Err(error) = connection.with_upgrades().await {
            tracing::debug!(%error, "an upstream HTTP/1 connection broke off");
        }
    });
    Ok(sender)
}

/// HTTP/2 with prior knowledge over a connected socket.
pub(in crate::proxy) async fn http2(socket: Arc<TcpStream>) -> io::Result<http2::SendRequest<Incoming>> {
    let stream = Stream {
        first: Bytes::new(),
        socket,
    };
    let mut builder = http2::Builder::new(LocalExecutor);
    builder
        .timer(TokioTimer::new())
        .initial_stream_window_size(HTTP2_STREAM_WINDOW_BYTES)
        .initial_connection_window_size(HTTP2_CONNECTION_WINDOW_BYTES)
        .max_header_list_size(HTTP2_HEADER_LIST_BYTES)
        .max_send_buf_size(HTTP2_SEND_BYTES);
    let (sender, connection) = builder.handshake(stream).await.map_err(io::Error::other)?;
    task::spawn("upstream", async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "an upstream HTTP/2 connection broke off");
        }
    });
    Ok(sender)
}
