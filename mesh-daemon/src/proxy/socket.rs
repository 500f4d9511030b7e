//! What the data path asks of a socket beyond reading and writing; and [`Stream`], a socket whose first bytes were already read.

use std::{
    io,
    mem::MaybeUninit,
    net::Shutdown,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Buf, Bytes};
use hyper::rt::{Read, ReadBufCursor, Write};
use socket2::{SockRef, TcpKeepalive};
use tokio::{io::Interest, net::TcpStream, time::timeout};

use super::bounds::{KEEPALIVE_IDLE, KEEPALIVE_INTERVAL, KEEPALIVE_PROBES, LINGER, LINGER_BYTES};

/// No Nagle delay, and keepalive that finds the dead.
pub(super) fn tune(socket: &TcpStream) -> io::Result<()> {
    let keepalive = TcpKeepalive::new()
        .with_time(KEEPALIVE_IDLE)
        .with_interval(KEEPALIVE_INTERVAL)
        .with_retries(KEEPALIVE_PROBES);
    socket.set_nodelay(true)?;
    SockRef::from(socket).set_tcp_keepalive(&keepalive)
}

/// Makes the coming close a reset. Errors say that the connection is gone already.
pub(super) fn reset_on_close(socket: &TcpStream) {
    let _ = SockRef::from(socket).set_linger(Some(Duration::ZERO));
}

/// Makes the coming close an orderly one again.
pub(super) fn end_in_order(socket: &TcpStream) {
    let _ = SockRef::from(socket).set_linger(None);
}

/// Whether the coming close is an orderly one.
pub(super) fn ends_in_order(socket: &TcpStream) -> bool {
    SockRef::from(socket).linger().is_ok_and(|linger| linger.is_none())
}

/// Reads on, for [`LINGER`] at most, until the peer has ended too. Closing over bytes that nobody has read is a reset, and the peer then loses what it has
/// not read yet: the last answer (RFC 9112, 9.6).
pub(super) async fn linger(socket: &TcpStream) {
    let rest = async {
        let mut scrap = vec![0; LINGER_BYTES];
        while socket.readable().await.is_ok() {
            match socket.try_read(&mut scrap) {
                Ok(0) => break,
                Err(error) if error.kind() != io::ErrorKind::WouldBlock => break,
                _ => {}
            }
        }
    };
    let _ = timeout(LINGER, rest).await;
}

/// Sends a FIN after everything written so far.
pub(super) fn shut_write(socket: &TcpStream) -> io::Result<()> {
    SockRef::from(socket).shutdown(Shutdown::Write)
}

/// Whether an idle connection is open and silent: asks the kernel, because a FIN may wait there unseen by the runtime.
pub(super) fn is_idle(socket: &TcpStream) -> bool {
    let mut byte = [MaybeUninit::uninit()];
    let peeked = SockRef::from(socket).recv_with_flags(&mut byte, libc::MSG_PEEK | libc::MSG_DONTWAIT);
    matches!(peeked, Err(error) if error.kind() == io::ErrorKind::WouldBlock)
}

/// Whether bytes of the peer wait to be read.
pub(super) fn has_word(socket: &TcpStream) -> bool {
    let mut byte = [MaybeUninit::uninit()];
    let peeked = SockRef::from(socket).recv_with_flags(&mut byte, libc::MSG_PEEK | libc::MSG_DONTWAIT);
    peeked.is_ok_and(|count| count > 0)
}

/// Waits until the connection is reset. For a socket that nobody reads: its reset would go unseen.
pub(super) async fn reset(socket: &TcpStream) {
    // an error here means that the runtime is ending
    let _ = socket.ready(Interest::ERROR).await;
}

/// Waits until the peer has ended its direction, whether what it sent before is read or not.
pub(super) async fn half_closed(socket: &TcpStream) {
    // of all interests this alone is not woken by bytes; an error here means that the runtime is ending
    let _ = socket.ready(Interest::PRIORITY).await;
}

/// A socket and bytes that were read from it before: they come first.
#[derive(Debug)]
pub(super) struct Stream {
    /// Read before.
    pub first: Bytes,
    /// The socket, shared with whoever must look at it.
    pub socket: Arc<TcpStream>,
}

impl Read for Stream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, mut buf: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        if self.first.has_remaining() {
            let count = self.first.remaining().min(buf.remaining());
            buf.put_slice(&self.first.split_to(count));
            if self.first.is_empty() {
                // even empty it would hold its buffer for as long as the connection lasts
                self.first = Bytes::new();
            }
            return Poll::Ready(Ok(()));
        }
        loop {
            ready!(self.socket.poll_read_ready(cx))?;
            // SAFETY: nothing is read from the buffer, and nothing initialised is overwritten with less
            let room = unsafe { buf.as_mut() };
            match self
                .socket
                .try_io(Interest::READABLE, || SockRef::from(&*self.socket).recv(room))
            {
                Ok(count) => {
                    // SAFETY: recv has just written `count` bytes at the front
                    unsafe { buf.advance(count) };
                    return Poll::Ready(Ok(()));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

impl Write for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_try_write(cx, || self.socket.try_write(bytes))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        end_in_order(&self.socket);
        // a connection that the peer has reset has nothing left to end
        let _ = shut_write(&self.socket);
        Poll::Ready(Ok(()))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_try_write(cx, || self.socket.try_write_vectored(parts))
    }
}

impl Stream {
    fn poll_try_write(
        &self,
        cx: &mut Context<'_>,
        mut write: impl FnMut() -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.socket.poll_write_ready(cx))?;
            match write() {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                result => return Poll::Ready(result),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn keepalive_finds_the_dead() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let dial = tokio::net::TcpSocket::new_v4().unwrap();
        let socket = dial.connect(listener.local_addr().unwrap()).await.unwrap();
        tune(&socket).unwrap();
        let socket = SockRef::from(&socket);
        assert!(socket.keepalive().unwrap() && socket.tcp_nodelay().unwrap());
        assert_eq!(socket.tcp_keepalive_time().unwrap(), KEEPALIVE_IDLE);
        assert_eq!(socket.tcp_keepalive_interval().unwrap(), KEEPALIVE_INTERVAL);
        assert_eq!(socket.tcp_keepalive_retries().unwrap(), KEEPALIVE_PROBES);
    }
}
