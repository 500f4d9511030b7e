//! Multicast notifications, reduced to what a level-triggered reader needs: something changed, look again. Their content is never trusted,
//! so a lost one (`ENOBUFS`) is as good as a read one.

use std::{future::poll_fn, io};

use rtnetlink::sys::{AsyncSocket, SocketAddr, TokioSocket};

/// Bytes kept of each notification: none is looked at, the kernel drops the rest of the datagram.
const KEPT_BYTES: usize = 64;
/// Notifications thrown away at one go. The kernel's receive buffer (212,992 bytes by default) holds fewer, so a full one is emptied; what
/// arrives meanwhile is a reason to look again, not to read on for ever.
const DRAIN_MAX: usize = 4096;

/// What made somebody look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Noticed {
    /// The first look.
    Start,
    /// The kernel said that something has changed.
    Notification,
    /// Enough time has passed. What is found so was missed, or nobody was told of it.
    Period,
}

impl Noticed {
    /// The word for the log.
    pub fn name(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Notification => "notification",
            Self::Period => "periodic check",
        }
    }
}

/// A socket that hears multicast groups of one netlink protocol.
pub(in crate::bpf) struct Notifications {
    socket: TokioSocket,
}

impl Notifications {
    /// Joins the groups (`RTNLGRP_…`, `NFNLGRP_…`).
    ///
    /// # Errors
    /// If the kernel lacks the protocol or a group, or refuses them to this user.
    pub(in crate::bpf) fn join(protocol: isize, groups: &[u32]) -> io::Result<Self> {
        let mut socket = TokioSocket::new(protocol)?;
        socket.socket_mut().bind(&SocketAddr::new(0, 0))?;
        for group in groups {
            socket.socket_mut().add_membership(*group)?;
        }
        Ok(Self { socket })
    }

    /// Waits until something has changed since the last call of this or [`Self::forget`].
    ///
    /// # Errors
    /// If the socket is broken.
    pub(in crate::bpf) async fn changed(&self) -> io::Result<()> {
        let mut buffer = [0; KEPT_BYTES];
        match poll_fn(|cx| self.socket.poll_recv(cx, &mut &mut buffer[..])).await {
            Err(error) if error.raw_os_error() != Some(libc::ENOBUFS) => Err(error),
            Ok(()) | Err(_) => {
                self.forget();
                Ok(())
            }
        }
    }

    /// Throws away what has arrived: the caller is about to look anyway.
    pub(in crate::bpf) fn forget(&self) {
        let mut buffer = [0; KEPT_BYTES];
        for _ in 0..DRAIN_MAX {
            match self.socket.socket_ref().recv(&mut &mut buffer[..], libc::MSG_DONTWAIT) {
                Err(error) if error.raw_os_error() != Some(libc::ENOBUFS) => return,
                Ok(_) | Err(_) => {}
            }
        }
    }
}
