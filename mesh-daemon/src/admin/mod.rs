//! What people and probes look at: metrics, health, and the admin socket. Everything here is read-only.
//!
//! [`bind`] takes the two ports and the socket before anything is attached to the kernel, so that a port in use stops the daemon while
//! nothing has happened yet; [`Bound::serve`] answers.

mod health;
mod http;
mod metrics;
mod socket;
mod views;

use std::{
    convert::Infallible,
    io,
    net::{SocketAddr, TcpListener},
    path::PathBuf,
    rc::Rc,
};

use prometheus::Registry;

use self::socket::AdminSocket;
pub use self::views::{Look, NoView, Views};
use crate::{config::Settings, ready::Readiness};

/// The ports and the socket, taken and not yet served.
#[derive(Debug)]
pub struct Bound {
    metrics: TcpListener,
    health: TcpListener,
    socket: AdminSocket,
}

/// Why a port or the socket could not be taken.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// A TCP port.
    #[error("cannot serve {what} on {addr} ({source}): stop what uses the port, or choose another with {flag}")]
    Port {
        /// What would be served.
        what: &'static str,
        /// Where.
        addr: SocketAddr,
        /// The flag that says where.
        flag: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
    /// No interface has the address.
    #[error("cannot serve {what} on {addr}: no interface has this address; choose another with {flag}")]
    NoSuchAddress {
        /// What would be served.
        what: &'static str,
        /// Where.
        addr: SocketAddr,
        /// The flag that says where.
        flag: &'static str,
    },
    /// A daemon answers on the socket.
    #[error("another mesh-daemon answers on {}: stop it first, or choose another path with --admin-socket", .0.display())]
    SocketLive(PathBuf),
    /// There is a file, and it is no socket.
    #[error("{} is a file and not a socket: choose another path with --admin-socket", .0.display())]
    NotASocket(PathBuf),
    /// There is a directory.
    #[error("{} is a directory: name a file in it with --admin-socket, as in {}", .0.display(), .0.join("admin.sock").display())]
    Directory(PathBuf),
    /// Anything else about the socket.
    #[error("cannot make the admin socket {} ({source}): choose a path that this user may write with --admin-socket", path.display())]
    Socket {
        /// The path.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
}

/// Takes the two ports and the admin socket.
///
/// # Errors
/// If one of them cannot be taken; the others are given back.
pub fn bind(settings: &Settings) -> Result<Bound, AdminError> {
    Ok(Bound {
        metrics: port("metrics", settings.metrics_addr, "--metrics-addr")?,
        health: port("health", settings.health_addr, "--health-addr")?,
        socket: AdminSocket::bind(&settings.admin_socket)?,
    })
}

impl Bound {
    /// Where metrics are served: the kernel's choice if port 0 was asked for.
    ///
    /// # Errors
    /// If the kernel does not say.
    pub fn metrics_addr(&self) -> io::Result<SocketAddr> {
        self.metrics.local_addr()
    }

    /// Where health is served.
    ///
    /// # Errors
    /// If the kernel does not say.
    pub fn health_addr(&self) -> io::Result<SocketAddr> {
        self.health.local_addr()
    }

    /// Answers until dropped; must run in a [`tokio::task::LocalSet`]. Goes on while the daemon drains, so that probes and scrapes see
    /// it: end it last. Dropping it removes the admin socket's file.
    ///
    /// # Errors
    /// If a listener cannot be handed to the runtime.
    pub async fn serve(
        self,
        registry: Registry,
        readiness: Readiness,
        views: Views,
        draining: impl Fn() -> bool + 'static,
    ) -> io::Result<Infallible> {
        let Self {
            metrics,
            health,
            socket,
        } = self;
        let own = metrics::Metrics::register(&registry);
        let metrics = tokio_listener(metrics)?;
        let health = tokio_listener(health)?;
        // `_file` lives as long as this future, and takes the socket's file with it
        let (socket, _file) = socket.into_tokio()?;
        let scrape = Rc::new(move |request: &http::Get| metrics::answer(request, &registry, &own));
        let probe = Rc::new(move |request: &http::Get| health::answer(request, &readiness, draining()));
        let ask = Rc::new(move |request: &http::Get| socket::answer(request, &views));
        let (never, _, _) = tokio::join!(
            http::serve("metrics", metrics, scrape),
            http::serve("health", health, probe),
            http::serve("admin socket", socket, ask),
        );
        match never {}
    }
}

fn port(what: &'static str, addr: SocketAddr, flag: &'static str) -> Result<TcpListener, AdminError> {
    TcpListener::bind(addr).map_err(|source| match source.kind() {
        io::ErrorKind::AddrNotAvailable => AdminError::NoSuchAddress { what, addr, flag },
        _ => AdminError::Port {
            what,
            addr,
            flag,
            source,
        },
    })
}

fn tokio_listener(listener: TcpListener) -> io::Result<tokio::net::TcpListener> {
    listener.set_nonblocking(true)?;
    tokio::net::TcpListener::from_std(listener)
}

#[cfg(test)]
mod tests;
