//! Opens a connection to an endpoint, from the client's address where the answer surely returns through this node.

use std::{
    cell::Cell,
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use nix::sys::socket::sockopt::IpBindAddressNoPort;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::{
    net::{TcpSocket, TcpStream},
    time::{Instant, timeout, timeout_at},
};

use super::{
    Worker,
    bounds::{CONNECT_TIMEOUT, CONNECT_TIMEOUT_TOTAL, DIAL_PORT_TRIES, DIAL_PORTS},
    choose::{Attempt, Chooser, ConnectionPermit, Purpose},
    identify::Connection,
    outcome::Failure,
    route::{Candidate, Plan},
    socket,
};
use crate::model::{AttemptEnd, Content};

/// From which address an endpoint is dialled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Source {
    /// The client's: the endpoint sees who is calling.
    Preserve,
    /// The node's own, and why.
    Own(OwnReason),
}

/// Why the client's address is not preserved; a metric label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum OwnReason {
    /// The client reaches itself through its Service: the answer would never leave the pod.
    SamePod,
    /// The client's or the endpoint's address is one of the node's own.
    NodeAddress,
    /// The families differ: an IPv4 client has no IPv6 address to show.
    Family,
    /// The endpoint lies outside the pod ranges: the answer may take another way, or the CNI's source NAT would be missed.
    OutsidePodRanges,
    /// The client is no pod of this node: the answer would not return here.
    ClientNotLocal,
    /// The daemon runs without transparent sockets.
    NotTransparent,
}

impl OwnReason {
    /// The metric label, in snake case.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::SamePod => "same_pod",
            Self::NodeAddress => "node_address",
            Self::Family => "family",
            Self::OutsidePodRanges => "outside_pod_ranges",
            Self::ClientNotLocal => "client_not_local",
            Self::NotTransparent => "not_transparent",
        }
    }
}

/// Whether `client`'s address may be shown to `endpoint`: only if the answer surely returns through this node.
pub(super) fn source(content: &Content, client: IpAddr, endpoint: IpAddr) -> Source {
    let local = |ip| {
        content
            .workloads
            .get(&ip)
            .is_some_and(|workload| workload.interface.is_some())
    };
    if client == endpoint {
        Source::Own(OwnReason::SamePod)
    } else if client.is_ipv4() != endpoint.is_ipv4() {
        Source::Own(OwnReason::Family)
    } else if [client, endpoint].iter().any(|ip| content.node_addresses.contains(ip)) {
        Source::Own(OwnReason::NodeAddress)
    } else if local(endpoint) {
        Source::Preserve
    } else if !content.pod_ranges.iter().any(|range| range.contains(&endpoint)) {
        Source::Own(OwnReason::OutsidePodRanges)
    } else if !local(client) {
        Source::Own(OwnReason::ClientNotLocal)
    } else {
        Source::Preserve
    }
}

/// An opaque connection to an endpoint.
pub(super) struct Dialled {
    /// The connection.
    pub(super) socket: Arc<TcpStream>,
    /// To whom.
    pub(super) attempt: Attempt,
    /// Held as long as it lives.
    pub(super) permit: Option<ConnectionPermit>,
}

/// Connects to the first endpoint that accepts, in the order that the balancer chooses; each is tried once, all within one bound. What its attempt says about the
/// endpoint is left to the caller, who may not know yet what the connection will carry.
///
/// # Errors
/// If none accepts.
pub(super) async fn first(worker: &Worker, client: &Connection, plan: &Plan) -> Result<Dialled, Failure> {
    let deadline = deadline();
    let mut chooser = Chooser::new(worker, plan, Purpose::Connection, client, None);
    let mut failure = None;
    loop {
        let mut attempt = match chooser.next() {
            Ok(attempt) => attempt,
            Err(none) => return Err(failure.unwrap_or(none)),
        };
        let permit = attempt.connection().map_err(Failure::Overflow)?;
        match connect(worker, client.client.ip(), &attempt.candidate, deadline).await {
            Ok(socket) => {
                attempt.dialled(worker);
                return Ok(Dialled {
                    socket,
                    attempt,
                    permit,
                });
            }
            Err(error) => {
                attempt.settle(worker, AttemptEnd::ConnectFailure);
                failure = Some(Failure::Connect(attempt.address(), error));
            }
        }
        if Instant::now() >= deadline {
            return Err(failure.unwrap_or(Failure::NoEndpoint));
        }
    }
}

/// Until when all candidates of one connection or request must have been tried.
pub(super) fn deadline() -> Instant {
    Instant::now() + CONNECT_TIMEOUT_TOTAL
}

/// Connects to one candidate.
///
/// # Errors
/// What the kernel says, or that it took too long.
pub(super) async fn connect(
    worker: &Worker,
    client: IpAddr,
    candidate: &Candidate,
    deadline: Instant,
) -> io::Result<Arc<TcpStream>> {
    let options = &worker.shared.options;
    let source = if options.transparent {
        candidate.source
    } else {
        Source::Own(OwnReason::NotTransparent)
    };
    let dialling = async {
        match source {
            Source::Preserve => {
                preserved(
                    client,
                    candidate.address,
                    options.marks.mark_transparent,
                    &worker.dial_port,
                )
                .await
            }
            Source::Own(reason) => {
                worker.shared.metrics.source_not_preserved(reason);
                let mark = options.transparent.then_some(options.marks.mark_own);
                open(candidate.address, mark)?.connect(candidate.address).await
            }
        }
    };
    let result = timeout_at(deadline, timeout(CONNECT_TIMEOUT, dialling)).await;
    let result = result
        .ok()
        .and_then(Result::ok)
        .unwrap_or_else(|| Err(io::ErrorKind::TimedOut.into()));
    let result = result.and_then(|stream| socket::tune(&stream).map(|()| Arc::new(stream)));
    if let Err(error) = &result {
        worker.shared.metrics.connect_failed(error.kind());
        tracing::debug!(endpoint = %candidate.address, %error, "an endpoint did not accept a connection");
    }
    result
}

/// Dials from the client's address, at a port that the pod itself hardly uses; if those are taken, at any.
async fn preserved(client: IpAddr, endpoint: SocketAddr, mark: u32, next: &Cell<u16>) -> io::Result<TcpStream> {
    for _ in 0..DIAL_PORT_TRIES {
        let port = next_port(next);
        let socket = transparent(endpoint, mark)?;
        // several sockets may hold the port, each towards another endpoint: the kernel refuses the same pair at connect()
        socket.set_reuseaddr(true)?;
        let result = match socket.bind(SocketAddr::new(client, port)) {
            Ok(()) => socket.connect(endpoint).await,
            Err(error) => Err(error),
        };
        match result {
            Err(error) if is_taken(&error) => {}
            result => return result,
        }
    }
    let socket = transparent(endpoint, mark)?;
    nix::sys::socket::setsockopt(&socket, IpBindAddressNoPort, &true)?;
    socket.bind(SocketAddr::new(client, 0))?;
    socket.connect(endpoint).await
}

fn next_port(next: &Cell<u16>) -> u16 {
    let port = next.get().clamp(*DIAL_PORTS.start(), *DIAL_PORTS.end());
    next.set(if port == *DIAL_PORTS.end() {
        *DIAL_PORTS.start()
    } else {
        port + 1
    });
    port
}

fn is_taken(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::AddrInUse | io::ErrorKind::AddrNotAvailable)
}

fn transparent(endpoint: SocketAddr, mark: u32) -> io::Result<TcpSocket> {
    let socket = open(endpoint, Some(mark))?;
    let reference = socket2::SockRef::from(&socket);
    match endpoint {
        SocketAddr::V4(_) => reference.set_ip_transparent_v4(true)?,
        SocketAddr::V6(_) => reference.set_ip_transparent_v6(true)?,
    }
    Ok(socket)
}

fn open(endpoint: SocketAddr, mark: Option<u32>) -> io::Result<TcpSocket> {
    let socket = Socket::new(
        Domain::for_address(endpoint),
        Type::STREAM.nonblocking().cloexec(),
        Some(Protocol::TCP),
    )?;
    if let Some(mark) = mark {
        socket.set_mark(mark)?;
    }
    Ok(TcpSocket::from_std_stream(socket.into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ids::ObjectRef, model::Workload};

    fn content() -> Content {
        let pod = |name: &str, interface| {
            let pod = ObjectRef::new("shop", name);
            Arc::new(Workload {
                weight: 1,
                pod,
                uid: String::new(),
                name: name.into(),
                node: None,
                interface,
            })
        };
        Content {
            workloads: [
                ("10.1.0.2".parse().unwrap(), pod("client", Some(3))),
                ("10.1.0.3".parse().unwrap(), pod("near", Some(4))),
                ("fd00::2".parse().unwrap(), pod("client", Some(3))),
                ("10.2.0.2".parse().unwrap(), pod("far", None)),
                ("192.0.2.9".parse().unwrap(), pod("near-elsewhere", Some(5))),
            ]
            .into(),
            pod_ranges: ["10.0.0.0/8".parse().unwrap(), "fd00::/16".parse().unwrap()].into(),
            node_addresses: ["10.1.0.1".parse().unwrap(), "192.0.2.1".parse().unwrap()].into(),
            ..Content::default()
        }
    }

    #[test]
    fn the_clients_address_is_shown_only_where_answers_return() {
        use {OwnReason as R, Source::Own, Source::Preserve};
        for (client, endpoint, expected) in [
            ("10.1.0.2", "10.1.0.3", Preserve),
            ("10.1.0.2", "10.2.0.2", Preserve),
            ("10.1.0.2", "10.2.0.77", Preserve),
            ("fd00::2", "fd00::77", Preserve),
            ("10.1.0.2", "192.0.2.9", Preserve),
            ("10.1.0.2", "10.1.0.2", Own(R::SamePod)),
            ("10.1.0.2", "10.1.0.1", Own(R::NodeAddress)),
            ("10.1.0.2", "192.0.2.1", Own(R::NodeAddress)),
            ("10.1.0.1", "10.1.0.3", Own(R::NodeAddress)),
            ("10.1.0.2", "192.0.2.7", Own(R::OutsidePodRanges)),
            ("10.1.0.2", "fd00::77", Own(R::Family)),
            ("10.2.0.2", "10.2.0.77", Own(R::ClientNotLocal)),
        ] {
            let decided = source(&content(), client.parse().unwrap(), endpoint.parse().unwrap());
            assert_eq!(decided, expected, "{client} → {endpoint}");
        }
    }

    #[test]
    fn ports_go_round_in_their_range() {
        let next = Cell::new(0);
        assert_eq!(next_port(&next), 61_000);
        assert_eq!(next_port(&next), 61_001);
        next.set(65_535);
        assert_eq!(next_port(&next), 65_535);
        assert_eq!(next_port(&next), 61_000);
    }
}
