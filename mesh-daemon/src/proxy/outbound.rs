//! The outbound spine: carries one captured connection from a local pod into the mesh.

use std::{rc::Rc, sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use tokio::time::{Instant, sleep_until, timeout};

use super::{
    Worker,
    accept::Accepted,
    bounds::{DETECT_PAUSE, HEADER_READ_TIMEOUT, REFUSAL_PATIENCE},
    copy,
    detect::{self, Detected, Protocol},
    dial::{self, Dialled},
    http,
    identify::{self, Connection},
    outcome::{Failure, Outcome},
    report::OpenConnection,
    route,
    socket::{self, Stream},
};
use crate::model::AppProtocol;

/// An upstream connection that was dialled before the protocol was known, because the client kept silent.
pub(super) struct Early {
    /// The connection, and the attempt that chose it: asking for another would turn the balancer twice.
    pub(super) dialled: Dialled,
}

/// Carries one connection to its end.
pub(super) async fn serve(worker: Rc<Worker>, accepted: Accepted) {
    let tables = worker.shared.tables.load_full();
    let connection = identify::outbound(&tables, accepted.client, accepted.destination);
    let hint = route::hint(&tables, connection.destination);
    drop(tables);
    match detect::protocol(&accepted.socket, hint, BytesMut::new()).await {
        Ok(Detected::Known(protocol, first)) => carry(&worker, accepted, connection, protocol, first, None).await,
        Ok(Detected::Silent(first)) => Box::pin(silent(&worker, accepted, connection, first)).await,
        Ok(Detected::Mute) => opaque(&worker, &accepted, &connection, None, None).await,
        Err(error) => tracing::debug!(client = %accepted.client, %error, "the client left before it said anything"),
    }
}

async fn carry(
    worker: &Rc<Worker>,
    accepted: Accepted,
    connection: Connection,
    protocol: Protocol,
    first: Bytes,
    early: Option<Early>,
) {
    match protocol {
        Protocol::Http1 | Protocol::Http2 => {
            http::server::serve(worker, accepted, connection, protocol, first, early).await;
        }
        Protocol::Opaque => opaque(worker, &accepted, &connection, Some(first), early).await,
    }
}

/// The client keeps silent, perhaps amid a line: dials, and whichever side speaks next decides.
async fn silent(worker: &Rc<Worker>, accepted: Accepted, connection: Connection, mut first: BytesMut) {
    let tables = worker.shared.tables.load_full();
    let plan = route::direct(&tables, &connection);
    let early = match dial::first(worker, &connection, &plan).await {
        Ok(mut dialled) => {
            dialled.attempt.undecided();
            Early { dialled }
        }
        Err(failure) => {
            // its routes may lead to other endpoints: only what the client says tells
            let is_routed = route::table(&tables, &connection).is_some();
            let patience = if is_routed {
                HEADER_READ_TIMEOUT
            } else {
                REFUSAL_PATIENCE
            };
            drop((tables, plan));
            return Box::pin(listen(worker, accepted, connection, first, patience, failure)).await;
        }
    };
    // a client may keep silent for hours, and old tables need not live as long
    drop((tables, plan));
    let mut until = Instant::now() + DETECT_PAUSE;
    loop {
        let client_first = tokio::select! {
            // a client that spoke meanwhile was first, even if the server spoke too
            biased;
            _ = accepted.socket.readable() => true,
            _ = early.dialled.socket.readable() => false,
            // half a line may be all that the server waits for
            () = sleep_until(until), if !first.is_empty() => false,
        };
        if !client_first {
            // a server that closes an idle connection has not spoken
            let speaks = !first.is_empty() || socket::has_word(&early.dialled.socket);
            let first = speaks.then(|| first.freeze());
            return opaque(worker, &accepted, &connection, first, Some(early)).await;
        }
        let begins = first.is_empty();
        match detect::protocol(&accepted.socket, AppProtocol::Detect, first).await {
            Ok(Detected::Known(protocol, first)) => {
                return carry(worker, accepted, connection, protocol, first, Some(early)).await;
            }
            Ok(Detected::Silent(more)) => {
                first = more;
                if begins {
                    until = Instant::now() + DETECT_PAUSE;
                }
            }
            Ok(Detected::Mute) => return opaque(worker, &accepted, &connection, None, Some(early)).await,
            Err(_) => return socket::reset_on_close(&early.dialled.socket),
        }
    }
}

/// The client keeps silent and no endpoint of the Service itself can be had: waits until it is known what the client speaks, for HTTP has answers that say why.
async fn listen(
    worker: &Rc<Worker>,
    accepted: Accepted,
    connection: Connection,
    mut first: BytesMut,
    patience: Duration,
    failure: Failure,
) {
    let waiting = async {
        loop {
            accepted.socket.readable().await?;
            match detect::protocol(&accepted.socket, AppProtocol::Detect, first).await? {
                Detected::Known(protocol, first) => return Ok::<_, std::io::Error>(Some((protocol, first))),
                Detected::Silent(more) => first = more,
                Detected::Mute => return Ok(None),
            }
        }
    };
    match timeout(patience, waiting).await {
        Ok(Ok(Some((protocol, first)))) => carry(worker, accepted, connection, protocol, first, None).await,
        _ => {
            let tables = worker.shared.tables.load();
            OpenConnection::new(&worker.shared, &connection, route::parties(&tables, &connection))
                .refuse(&failure, connection.destination);
            socket::reset_on_close(&accepted.socket);
        }
    }
}

/// Bytes both ways, to one endpoint. `first` is what the client said; none if one side ended before either had said a word. Such a connection may have been meant
/// for HTTP: that the endpoint accepts it says nothing about the endpoint.
async fn opaque(
    worker: &Worker,
    accepted: &Accepted,
    connection: &Connection,
    first: Option<Bytes>,
    early: Option<Early>,
) {
    let tables = worker.shared.tables.load_full();
    if route::table(&tables, connection).is_some() {
        worker.shared.metrics.upstream.opaque_on_routed_port();
    }
    let dialled = match early {
        Some(Early { dialled }) => Ok(dialled),
        None => dial::first(worker, connection, &route::direct(&tables, connection)).await,
    };
    let mut open = OpenConnection::new(&worker.shared, connection, route::parties(&tables, connection));
    drop(tables);
    let Dialled {
        socket,
        mut attempt,
        permit,
    } = match dialled {
        Ok(dialled) => dialled,
        Err(failure) => {
            open.refuse(&failure, connection.destination);
            socket::reset_on_close(&accepted.socket);
            return;
        }
    };
    if first.is_some() {
        attempt.connected(worker);
    } else {
        attempt.undecided();
    }
    let bytes = open.connected(attempt.candidate.workload.clone(), Some(attempt.address()));
    let client = Stream {
        first: first.unwrap_or_default(),
        socket: Arc::clone(&accepted.socket),
    };
    let upstream = Stream {
        first: Bytes::new(),
        socket,
    };
    let outcome: Outcome = copy::both(&worker.buffers, client, upstream, &bytes).await;
    drop((attempt, permit));
    open.close(outcome);
}
