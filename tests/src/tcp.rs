//! Plain TCP inside a pod, for what HTTP clients never do: half-close, reset, silence, a source address of one's own choice.

use std::{
    io::{ErrorKind, Read, Write},
    net::{IpAddr, Shutdown, SocketAddr, TcpStream},
    time::Duration,
};

use anyhow::{Context, Result};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use crate::bench::Netns;

/// A connect, read or write that takes longer hangs.
pub const TIMEOUT: Duration = Duration::from_secs(10);

/// Connects from inside a namespace.
///
/// # Errors
/// If nothing accepts within [`TIMEOUT`].
pub fn connect(netns: &Netns, target: SocketAddr) -> Result<TcpStream> {
    connect_within(netns, target, TIMEOUT)
}

/// Connects from inside a namespace, with a limit of one's own.
///
/// # Errors
/// If nothing accepts within the limit.
pub fn connect_within(netns: &Netns, target: SocketAddr, limit: Duration) -> Result<TcpStream> {
    let stream = netns.inside(|| TcpStream::connect_timeout(&target, limit))?;
    let stream = stream.with_context(|| format!("connecting to {target} from {}", netns.name()))?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Connects from a given source address, which must be one of the namespace's.
///
/// # Errors
/// If nothing accepts within the limit.
pub fn connect_from(netns: &Netns, source: IpAddr, target: SocketAddr, limit: Duration) -> Result<TcpStream> {
    let connected = netns.inside(|| -> std::io::Result<TcpStream> {
        let socket = Socket::new(Domain::for_address(target), Type::STREAM, Some(Protocol::TCP))?;
        socket.bind(&SockAddr::from(SocketAddr::new(source, 0)))?;
        socket.connect_timeout(&SockAddr::from(target), limit)?;
        Ok(socket.into())
    })?;
    connected.with_context(|| format!("connecting from {source} to {target}"))
}

/// Sends these bytes and reads back as many.
///
/// # Errors
/// If the connection ends or hangs before.
pub fn echo(stream: &mut TcpStream, bytes: &[u8]) -> Result<Vec<u8>> {
    stream.write_all(bytes)?;
    let mut back = vec![0; bytes.len()];
    stream.read_exact(&mut back)?;
    Ok(back)
}

/// Says that nothing more will be sent, and reads to the end.
///
/// # Errors
/// If the connection is reset or hangs.
pub fn finish(stream: &mut TcpStream) -> Result<Vec<u8>> {
    stream.shutdown(Shutdown::Write)?;
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest)?;
    Ok(rest)
}

/// Ends a connection by a reset (RFC 9293, section 3.10.4: ABORT).
///
/// # Errors
/// If the socket refuses.
pub fn reset(stream: TcpStream) -> Result<()> {
    let socket = Socket::from(stream);
    socket.set_linger(Some(Duration::ZERO))?;
    Ok(())
}

/// How a connection ended, as its reader sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// In order.
    Closed,
    /// By a reset.
    Reset,
    /// Not: nothing came within [`TIMEOUT`].
    Silent,
}

/// Reads until the connection ends.
///
/// # Errors
/// If it ends in a way that [`End`] has no word for.
pub fn read_to_end(stream: &mut TcpStream) -> Result<End> {
    let mut buffer = [0; 4096];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return Ok(End::Closed),
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::ConnectionReset => return Ok(End::Reset),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                return Ok(End::Silent);
            }
            Err(error) => return Err(error.into()),
        }
    }
}
