//! The outbound spine: carries one captured connection from a local pod into the mesh.

use std::{rc::Rc, sync::Arc};

use bytes::{Bytes, BytesMut};
use tokio::time::{Instant, sleep_until, timeout};

use super::{
    Worker,
    accept::Accepted,
    bounds::{DETECT_PAUSE, HEADER_READ_TIMEOUT},
    copy,
    detect::{self, Detected, Protocol},
    dial::{self, Dialled},
    http,
    identify::{self, Connection},
    outcome::Outcome,
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
        Protocol::Opaque => opaque(worker, &accepted, &connection, first, early).await,
    }
}

/// The client keeps silent, perhaps amid a line: dials, and whichever side speaks next decides.
async fn silent(worker: &Rc<Worker>, accepted: Accepted, connection: Connection, mut first: BytesMut) {
    let tables = worker.shared.tables.load_full();
    let plan = route::direct(&tables, &connection);
    let early = match dial::first(worker, &connection, &plan).await {
        Ok(dialled) => Early { dialled },
        // its routes may lead to other endpoints: only what the client says tells
        Err(_) if route::table(&tables, &connection).is_some() => {
            return Box::pin(listen(worker, accepted, connection, first)).await;
        }
        Err(failure) => {
            OpenConnection::new(&worker.shared, &connection, route::parties(&tables, &connection))
                .refuse(&failure, connection.destination);
            socket::reset_on_close(&accepted.socket);
            return;
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
            return opaque(worker, &accepted, &connection, first.freeze(), Some(early)).await;
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
            Err(_) => return socket::reset_on_close(&early.dialled.socket),
        }
    }
}

/// The client keeps silent and no endpoint of the Service itself can be had: waits until it is known what the client speaks.
async fn listen(worker: &Rc<Worker>, accepted: Accepted, connection: Connection, mut first: BytesMut) {
    let waiting = async {
        loop {
            accepted.socket.readable().await?;
            match detect::protocol(&accepted.socket, AppProtocol::Detect, first).await? {
                Detected::Known(protocol, first) => return Ok::<_, std::io::Error>((protocol, first)),
                Detected::Silent(more) => first = more,
            }
        }
    };
    match timeout(HEADER_READ_TIMEOUT, waiting).await {
        Ok(Ok((protocol, first))) => carry(worker, accepted, connection, protocol, first, None).await,
        Ok(Err(_)) | Err(_) => socket::reset_on_close(&accepted.socket),
    }
}

/// Bytes both ways, to one endpoint.
async fn opaque(worker: &Worker, accepted: &Accepted, connection: &Connection, first: Bytes, early: Option<Early>) {
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
        attempt,
        permit,
    } = match dialled {
        Ok(dialled) => dialled,
        Err(failure) => {
            open.refuse(&failure, connection.destination);
            socket::reset_on_close(&accepted.socket);
            return;
        }
    };
    let bytes = open.connected(attempt.candidate.workload.clone(), Some(attempt.address()));
    let client = Stream {
        first,
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
