//! The outbound spine: carries one captured connection from a local pod into the mesh.

use std::{rc::Rc, sync::Arc};

use bytes::{Bytes, BytesMut};
use tokio::{
    net::TcpStream,
    time::{Instant, sleep_until},
};

use super::{
    Worker,
    accept::Accepted,
    bounds::DETECT_PAUSE,
    copy,
    detect::{self, Detected, Protocol},
    dial, http,
    identify::{self, Connection},
    outcome::Outcome,
    report::OpenConnection,
    route::{self, Candidate, Plan},
    socket::{self, Stream},
};
use crate::model::AppProtocol;

/// An upstream connection that was dialled before the protocol was known, because the client kept silent.
pub(super) struct Early {
    /// The connection.
    pub(super) socket: Arc<TcpStream>,
    /// To whom.
    pub(super) candidate: Candidate,
    /// The plan that chose it: asking for another would turn the cursor twice.
    pub(super) plan: Plan,
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
    let plan = route::plan(&worker.shared.tables.load(), &connection);
    let early = match dial::first(worker, connection.client.ip(), &plan).await {
        Ok((socket, candidate)) => Early {
            socket,
            candidate,
            plan,
        },
        Err(failure) => {
            OpenConnection::new(&worker.shared, plan.parties(&connection)).refuse(&failure, connection.destination);
            socket::reset_on_close(&accepted.socket);
            return;
        }
    };
    let mut until = Instant::now() + DETECT_PAUSE;
    loop {
        let client_first = tokio::select! {
            // a client that spoke meanwhile was first, even if the server spoke too
            biased;
            _ = accepted.socket.readable() => true,
            _ = early.socket.readable() => false,
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
            Err(_) => return socket::reset_on_close(&early.socket),
        }
    }
}

/// The plan of the early dial, if there was one, with its connection; else a new one.
pub(super) fn planned(
    worker: &Worker,
    connection: &Connection,
    early: Option<Early>,
) -> (Plan, Option<(Arc<TcpStream>, Candidate)>) {
    match early {
        Some(Early {
            socket,
            candidate,
            plan,
        }) => (plan, Some((socket, candidate))),
        None => (route::plan(&worker.shared.tables.load(), connection), None),
    }
}

/// Bytes both ways, to one endpoint.
async fn opaque(worker: &Worker, accepted: &Accepted, connection: &Connection, first: Bytes, early: Option<Early>) {
    let (plan, early) = planned(worker, connection, early);
    let mut open = OpenConnection::new(&worker.shared, plan.parties(connection));
    let dialled = match early {
        Some(early) => Ok(early),
        None => dial::first(worker, connection.client.ip(), &plan).await,
    };
    let (upstream, candidate) = match dialled {
        Ok(dialled) => dialled,
        Err(failure) => {
            open.refuse(&failure, connection.destination);
            socket::reset_on_close(&accepted.socket);
            return;
        }
    };
    let bytes = open.connected(candidate.workload);
    let client = Stream {
        first,
        socket: Arc::clone(&accepted.socket),
    };
    let upstream = Stream {
        first: Bytes::new(),
        socket: upstream,
    };
    let outcome: Outcome = copy::both(&worker.buffers, client, upstream, &bytes).await;
    open.close(outcome);
}
