//! A worker's listeners: one task per connection, bounded, until the drain says stop.

use std::{
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    os::fd::{AsFd, BorrowedFd},
    pin::pin,
    rc::Rc,
    sync::Arc,
};

use futures_util::FutureExt as _;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::OwnedSemaphorePermit,
    time::sleep,
};

use super::{
    Options, Shared, Worker,
    bounds::{ACCEPT_PAUSE, CONNECTIONS_PER_CLIENT, CONNECTIONS_PER_WORKER, DRAIN_ACCEPT, LISTEN_BACKLOG},
    outbound,
    places::{Place, Places},
    socket,
};
use crate::{drain, task};

/// A captured connection as it was accepted.
pub(super) struct Accepted {
    /// The client's socket.
    pub(super) socket: Arc<TcpStream>,
    /// The client's address.
    pub(super) client: SocketAddr,
    /// The destination that it asked for.
    pub(super) destination: SocketAddr,
    /// Its place among the worker's connections.
    pub(super) place: Rc<Place>,
}

/// One worker's transparent listeners. Packets reach them by `bpf_sk_assign` only, so their own address does not matter.
#[derive(Debug)]
pub struct Listeners {
    v4: std::net::TcpListener,
    v6: Option<std::net::TcpListener>,
}

impl Listeners {
    /// Binds both to loopback, at a port that the kernel picks; without IPv6 only one.
    ///
    /// # Errors
    /// If the kernel refuses: no `CAP_NET_ADMIN`, no descriptors.
    pub fn bind(options: &Options) -> io::Result<Self> {
        let v4 = listen(options, SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
        let v6 = match listen(options, SocketAddr::from((Ipv6Addr::LOCALHOST, 0))) {
            Ok(listener) => Some(listener),
            // a node without IPv6 has no such family, or no ::1
            Err(error) if matches!(error.raw_os_error(), Some(libc::EAFNOSUPPORT | libc::EADDRNOTAVAIL)) => None,
            Err(error) => return Err(error),
        };
        Ok(Self { v4, v6 })
    }

    /// The listening sockets, for the SOCKMAP: IPv4, and IPv6 if the node has it.
    pub fn as_fds(&self) -> (BorrowedFd<'_>, Option<BorrowedFd<'_>>) {
        (self.v4.as_fd(), self.v6.as_ref().map(AsFd::as_fd))
    }

    /// Where they are bound: IPv4, and IPv6 if the node has it.
    ///
    /// # Errors
    /// If the kernel does not know.
    pub fn addresses(&self) -> io::Result<(SocketAddr, Option<SocketAddr>)> {
        Ok((
            self.v4.local_addr()?,
            self.v6.as_ref().map(std::net::TcpListener::local_addr).transpose()?,
        ))
    }
}

/// Runs one worker on the current thread until the drain has been said and its last connection has ended.
pub async fn serve(shared: Arc<Shared>, listeners: Listeners, drain: drain::Watch) {
    let worker = Worker::new(shared, drain);
    let places = Places::new(CONNECTIONS_PER_WORKER, CONNECTIONS_PER_CLIENT);
    let Listeners { v4, v6 } = listeners;
    let accepting = async {
        let v6 = async {
            if let Some(v6) = v6 {
                accept(&worker, v6, &places).await;
            }
        };
        tokio::join!(accept(&worker, v4, &places), v6);
        // every place is free again when the last connection has ended
        places.all_free().await;
    };
    tokio::select! {
        () = accepting => {}
        () = worker.pool.sweep(&worker.shared.metrics) => {}
    }
}

/// Accepts until the drain and a little longer, so that no handshake that began before is cut off; the listener closes on return.
async fn accept(worker: &Rc<Worker>, listener: std::net::TcpListener, places: &Rc<Places>) {
    let opened = listener
        .set_nonblocking(true)
        .and_then(|()| Ok((listener.local_addr()?, TcpListener::from_std(listener)?)));
    let (own, listener) = match opened {
        Ok(opened) => opened,
        Err(error) => {
            tracing::error!(%error, "a listener could not be handed to its worker: its connections are refused");
            return;
        }
    };
    let mut drain = worker.drain.clone();
    let mut closing = pin!(async move {
        drain.draining().await;
        sleep(DRAIN_ACCEPT).await;
    });
    loop {
        let next = async {
            let permit = permit(worker, places).await?;
            match listener.accept().await {
                Ok((socket, _)) => Some((permit, socket)),
                Err(error) => {
                    worker.shared.metrics.accept_failed(error.kind());
                    tracing::warn!(%error, "accept failed; trying again");
                    sleep(ACCEPT_PAUSE).await;
                    None
                }
            }
        };
        let accepted = tokio::select! {
            accepted = next => accepted,
            () = &mut closing => break,
        };
        if let Some((permit, socket)) = accepted {
            start(worker, own, socket, places, permit);
        }
    }
    // what the kernel has already accepted would be reset; no more than a backlog, whoever goes on connecting
    for _ in 0..LISTEN_BACKLOG {
        let (Some(permit), Some(Ok((socket, _)))) = (places.try_permit(), listener.accept().now_or_never()) else {
            return;
        };
        start(worker, own, socket, places, permit);
    }
}

/// The right to one more connection; waits while all places are taken.
async fn permit(worker: &Worker, places: &Places) -> Option<OwnedSemaphorePermit> {
    if let Some(permit) = places.try_permit() {
        return Some(permit);
    }
    worker.shared.metrics.limit_reached("connections");
    places.permit().await
}

fn start(worker: &Rc<Worker>, own: SocketAddr, socket: TcpStream, places: &Rc<Places>, permit: OwnedSemaphorePermit) {
    let ends = socket::tune(&socket).and_then(|()| worker.shared.borders.origin.ends(&socket));
    let (client, destination) = match ends {
        Ok(ends) => ends,
        Err(error) => {
            tracing::debug!(%error, "a connection was gone before it was looked at");
            return;
        }
    };
    if destination == own {
        // somebody on the node dialled the listener itself: there is nowhere to carry this
        worker.shared.metrics.not_captured.inc();
        socket::reset_on_close(&socket);
        return;
    }
    let Some(place) = places.take(permit, client.ip()) else {
        worker.shared.metrics.limit_reached("connections_per_client");
        socket::reset_on_close(&socket);
        return;
    };
    let accepted = Accepted {
        socket: Arc::new(socket),
        client,
        destination,
        place: Rc::new(place),
    };
    task::spawn("connection", outbound::serve(Rc::clone(worker), accepted));
}

fn listen(options: &Options, address: SocketAddr) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM.cloexec(),
        Some(Protocol::TCP),
    )?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    if options.transparent {
        // accepted sockets inherit both
        socket.set_mark(options.marks.mark_transparent)?;
        if address.is_ipv6() {
            socket.set_ip_transparent_v6(true)?;
        } else {
            socket.set_ip_transparent_v4(true)?;
        }
    }
    socket.bind(&address.into())?;
    socket.listen(LISTEN_BACKLOG)?;
    Ok(socket.into())
}
