//! The upstream's side: hyper's client connections, and one attempt to have a request answered by one endpoint.

use std::{io, rc::Rc, sync::Arc};

use bytes::Bytes;
use hyper::{
    Request, Response,
    body::Incoming,
    client::conn::{http1, http2},
};
use hyper_util::rt::TokioTimer;
use tokio::{
    net::TcpStream,
    time::{Instant, timeout_at},
};

use crate::{
    proxy::{
        Worker,
        bounds::{
            HTTP1_BUFFER_BYTES, HTTP1_HEADERS, HTTP2_CONNECTION_WINDOW_BYTES, HTTP2_HEADER_LIST_BYTES,
            HTTP2_SEND_BYTES, HTTP2_STREAM_WINDOW_BYTES, POOL_STALE_TRIES,
        },
        choose::{Attempt, SharedPermit},
        detect::Protocol,
        identify::Connection,
        outcome::{Failure, TimeoutField},
        pool::{Fresh, Lease, NoConnection, Pool},
        socket::Stream,
    },
    task::{self, LocalExecutor},
};

use super::replay::{BodyError, Outgoing};

/// How one attempt ended without an answer.
#[expect(
    clippy::large_enum_variant,
    reason = "it moves up one frame, once: an allocation costs more"
)]
pub(super) enum Untaken {
    /// Nothing was sent: the request may go elsewhere.
    Whole(Request<Outgoing>, Failure),
    /// It was sent, at least in part, and may have had its effect.
    Sent(Failure),
}

/// What holds for one attempt.
pub(super) struct Asking<'a> {
    pub(super) worker: &'a Rc<Worker>,
    pub(super) client: &'a Connection,
    pub(super) protocol: Protocol,
    /// Until when a connection must be there.
    pub(super) connected_by: Instant,
    /// Until when the answer's head must be there, and what says so.
    pub(super) answered_by: Option<(Instant, TimeoutField)>,
}

impl Asking<'_> {
    /// Asks one endpoint; a pooled connection that turns out to be closed is replaced, in the end by a fresh one.
    pub(super) async fn ask(
        &self,
        to: &Attempt,
        mut early: Option<Fresh>,
        mut request: Request<Outgoing>,
    ) -> Result<(Response<Incoming>, Lease), Untaken> {
        let (began, upload) = (Instant::now(), request.body().upload());
        let mut tries = 0;
        loop {
            let fresh = tries >= POOL_STALE_TRIES;
            let mut lease = match self.lease(to, early.take(), fresh).await {
                Ok(lease) => lease,
                Err(why) => return Err(Untaken::Whole(request, why)),
            };
            let Some(sent) = self.in_time(lease.send(request)).await else {
                let is_clients = upload.is_some_and(|upload| upload.held_up_since(began));
                return Err(Untaken::Sent(self.late(to, is_clients)));
            };
            let mut error = match sent {
                Ok(response) => return Ok((response, lease)),
                Err(error) => error,
            };
            let Some(whole) = error.take_message() else {
                return Err(Untaken::Sent(broken(to, error.into_error())));
            };
            self.worker.shared.metrics.stale("when_sent");
            if fresh {
                let error = io::Error::other(error.into_error());
                return Err(Untaken::Whole(whole, Failure::Connect(to.address(), error)));
            }
            request = whole;
            tries += 1;
        }
    }

    async fn lease(&self, to: &Attempt, early: Option<Fresh>, fresh: bool) -> Result<Lease, Failure> {
        let Self { worker, client, .. } = self;
        let by = self
            .answered_by
            .map_or(self.connected_by, |(by, _)| by.min(self.connected_by));
        let lease = match (self.protocol, early) {
            (Protocol::Http2, early) => Pool::http2(worker, client, to, early, by).await,
            (_, Some(fresh)) => Pool::http1_over(worker, client, to, fresh).await,
            (_, None) => Pool::http1(worker, client, to, fresh, by).await,
        };
        lease.map_err(|why| match why {
            NoConnection::Failed(error) => {
                Failure::Connect(to.address(), io::Error::new(error.kind(), error.to_string()))
            }
            NoConnection::Overflow(limit) => Failure::Overflow(limit),
        })
    }

    /// None if the time is over.
    async fn in_time<T>(&self, answer: impl Future<Output = T>) -> Option<T> {
        match self.answered_by {
            Some((by, _)) => timeout_at(by, answer).await.ok(),
            None => Some(answer.await),
        }
    }

    /// `is_clients`: the time went by in waiting for the request's body.
    fn late(&self, to: &Attempt, is_clients: bool) -> Failure {
        let field = self.answered_by.map_or(TimeoutField::Request, |(_, field)| field);
        if is_clients {
            Failure::Stalled(field)
        } else {
            Failure::Timeout(field, to.address())
        }
    }
}

/// To hyper's client the body is its user's: here that is the client.
fn broken(to: &Attempt, error: hyper::Error) -> Failure {
    if error.is_user() || BodyError::within(&error).is_some() {
        Failure::Unfinished(error)
    } else {
        Failure::Unanswered(to.address(), error)
    }
}

/// HTTP/1 over a connected socket. Its place among the connections in use is up to who uses it: an upgrade outlives the task here.
pub(in crate::proxy) async fn http1(socket: Arc<TcpStream>) -> io::Result<http1::SendRequest<Outgoing>> {
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
pub(in crate::proxy) async fn http2(
    socket: Arc<TcpStream>,
    permit: SharedPermit,
) -> io::Result<http2::SendRequest<Outgoing>> {
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
        permit.give_back();
    });
    Ok(sender)
}
