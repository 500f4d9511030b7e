//! Who opened a connection and where it was going: from the socket's two addresses.

use std::{io, net::SocketAddr, sync::Arc};

use tokio::net::TcpStream;

use super::live::Tables;
use crate::model::Workload;

/// Tells the two ends of an accepted connection. A border that tests fill with a destination of their own.
pub trait Origin: Send + Sync {
    /// The client's address, and the destination that it asked for.
    ///
    /// # Errors
    /// If the connection is already gone.
    fn ends(&self, socket: &TcpStream) -> io::Result<(SocketAddr, SocketAddr)>;
}

/// What the kernel says: a steered connection keeps the addresses that the client used.
#[derive(Clone, Copy, Debug)]
pub struct FromSocket;

impl Origin for FromSocket {
    fn ends(&self, socket: &TcpStream) -> io::Result<(SocketAddr, SocketAddr)> {
        Ok((socket.peer_addr()?, socket.local_addr()?))
    }
}

/// A captured connection.
#[derive(Clone, Debug)]
pub(super) struct Connection {
    /// The client's address.
    pub client: SocketAddr,
    /// The pod that owns it, if it is known.
    pub source: Option<Arc<Workload>>,
    /// The destination that it asked for.
    pub destination: SocketAddr,
}

/// Names the client.
pub(super) fn outbound(tables: &Tables, client: SocketAddr, destination: SocketAddr) -> Connection {
    let source = tables.snapshot.content.workloads.get(&client.ip()).cloned();
    Connection {
        client,
        source,
        destination,
    }
}
