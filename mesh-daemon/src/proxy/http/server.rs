//! The client's side: hyper serves the connection, each request becomes an exchange.

use std::{cell::Cell, convert::Infallible, pin::pin, rc::Rc, sync::Arc};

use bytes::Bytes;
use hyper::{server::conn, service::service_fn};
use hyper_util::rt::TokioTimer;
use tokio::{
    net::TcpStream,
    sync::Notify,
    time::{sleep, timeout},
};

use super::{Client, exchange};
use crate::{
    drain,
    proxy::{
        Worker,
        accept::Accepted,
        bounds::{
            DRAIN_FIRST_REQUEST, HALF_CLOSED_WAIT, HEADER_READ_TIMEOUT, HTTP1_BUFFER_BYTES, HTTP1_HEADERS,
            HTTP2_CONNECTION_WINDOW_BYTES, HTTP2_HEADER_LIST_BYTES, HTTP2_SEND_BYTES, HTTP2_STREAM_WINDOW_BYTES,
            HTTP2_STREAMS,
        },
        detect::Protocol,
        identify::Connection,
        outbound::Early,
        socket::{self, Stream},
    },
    task::LocalExecutor,
};

/// Serves one client connection to its end; on drain it says `Connection: close` or GOAWAY and ends after the requests under way.
pub(in crate::proxy) async fn serve(
    worker: &Rc<Worker>,
    accepted: Accepted,
    connection: Connection,
    protocol: Protocol,
    first: Bytes,
    early: Option<Early>,
) {
    let Accepted { socket, place, .. } = accepted;
    let held = Rc::clone(&place);
    let mut drain = worker.drain.clone();
    let worker = Rc::clone(worker);
    let begun = Rc::new(Notify::new());
    let client = Rc::new(Client {
        worker,
        connection,
        protocol,
        early: Cell::new(early),
        _place: place,
    });
    let begins = Rc::clone(&begun);
    let waiting = Rc::new(Waiting::default());
    let waits = Rc::clone(&waiting);
    let service = service_fn(move |request| {
        begins.notify_one();
        let response = Rc::clone(&waits).whilst(exchange(Rc::clone(&client), request));
        async { Ok::<_, Infallible>(response.await) }
    });
    let watched = Arc::clone(&socket);
    // until hyper shuts it down in order: an answer that is cut must not look complete to a client that reads to the end
    socket::reset_on_close(&socket);
    let stream = Stream { first, socket };
    // one macro for both: the two connection types share no trait
    macro_rules! run {
        ($connection:expr) => {{
            let mut connection = pin!($connection);
            tokio::select! {
                result = &mut connection => result,
                () = may_stop(&mut drain, &begun) => {
                    connection.as_mut().graceful_shutdown();
                    connection.await
                }
            }
        }};
    }
    let serving = async {
        match protocol {
            Protocol::Http2 => run!(http2().serve_connection(stream, service)),
            _ => run!(http1().serve_connection(stream, service).with_upgrades()),
        }
    };
    let result = tokio::select! {
        biased;
        result = serving => result,
        // after a half-close nobody reads, so nobody else would see that the client is gone for good
        () = socket::reset(&watched) => return,
        () = left(&watched, &waiting), if protocol != Protocol::Http2 => return,
    };
    match result {
        Err(error) => tracing::debug!(%error, "a client's HTTP connection broke off"),
        // not one that was upgraded and goes on
        Ok(()) if socket::ends_in_order(&watched) => socket::linger(&watched).await,
        Ok(()) => {}
    }
    drop(held);
}

/// Waits for the drain, and then for the connection's first request: hyper would close a connection without one unanswered, and the client
/// of a connection that was just accepted has done nothing wrong.
async fn may_stop(drain: &mut drain::Watch, begun: &Notify) {
    drain.draining().await;
    // without a request within this time the connection is idle
    let _ = timeout(DRAIN_FIRST_REQUEST, begun.notified()).await;
}

/// Which request of an HTTP/1 connection waits for the head of its answer.
#[derive(Default)]
struct Waiting {
    requests: Cell<u64>,
    answers: Cell<u64>,
}

impl Waiting {
    /// The next request, which waits until this answers.
    async fn whilst<T>(self: Rc<Self>, answer: impl Future<Output = T>) -> T {
        self.requests.set(self.requests.get() + 1);
        let answer = answer.await;
        self.answers.set(self.answers.get() + 1);
        answer
    }

    fn request(&self) -> Option<u64> {
        (self.answers.get() < self.requests.get()).then(|| self.requests.get())
    }
}

/// Waits until a client that has sent its FIN is taken for gone: one and the same request has waited [`HALF_CLOSED_WAIT`] since, without an answer. A FIN
/// does not say whether anybody still reads; an answer that has begun finds out by itself.
async fn left(socket: &TcpStream, waiting: &Waiting) {
    socket::half_closed(socket).await;
    let mut request = waiting.request();
    loop {
        sleep(HALF_CLOSED_WAIT).await;
        let still = waiting.request();
        if still.is_some() && still == request {
            return;
        }
        request = still;
    }
}

fn http1() -> conn::http1::Builder {
    let mut builder = conn::http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_READ_TIMEOUT)
        // a FIN says that no further request comes, not that nobody waits: the client gets its answer, as from the server itself, if it comes soon
        .half_close(true)
        .max_buf_size(HTTP1_BUFFER_BYTES)
        .max_headers(HTTP1_HEADERS)
        .preserve_header_case(true)
        // the Date is the server's to say
        .auto_date_header(false);
    builder
}

fn http2() -> conn::http2::Builder<LocalExecutor> {
    let mut builder = conn::http2::Builder::new(LocalExecutor);
    builder
        .timer(TokioTimer::new())
        .max_header_list_size(HTTP2_HEADER_LIST_BYTES)
        .max_concurrent_streams(HTTP2_STREAMS)
        .initial_stream_window_size(HTTP2_STREAM_WINDOW_BYTES)
        .initial_connection_window_size(HTTP2_CONNECTION_WINDOW_BYTES)
        .max_send_buf_size(HTTP2_SEND_BYTES)
        .auto_date_header(false);
    builder
}
