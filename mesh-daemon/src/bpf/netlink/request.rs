//! Requests and answers over a netlink socket of any protocol: bytes out, messages back, the first refusal as an error.

use std::{future::poll_fn, io, time::Duration};

use rtnetlink::sys::{AsyncSocket, SocketAddr, TokioSocket};
use tokio::time::timeout;

/// Bytes of one datagram from the kernel: it fills a dump's datagrams up to 32 KiB (netlink(7)).
const DATAGRAM_BYTES: usize = 32 * 1024;
/// Datagrams of one answer. Weft asks about its own few objects; more is an answer to somebody else's question.
const DATAGRAMS_MAX: usize = 256;
/// The kernel answers within the system call that asks, unless somebody's large transaction (kube-proxy's full sync) is in its way.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// Bytes of a netlink header (`struct nlmsghdr`).
pub(in crate::bpf) const HEADER_BYTES: usize = 16;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLM_F_DUMP_INTR: u16 = 0x10;

/// A socket for requests of one netlink protocol.
pub(in crate::bpf) struct Requests {
    socket: TokioSocket,
}

/// What the kernel said.
#[derive(Debug, Default, PartialEq, Eq)]
pub(in crate::bpf) struct Answer {
    /// Type and payload of each message but acknowledgements.
    pub(in crate::bpf) messages: Vec<(u16, Vec<u8>)>,
    /// The objects changed during the dump: the answer is to be thrown away and asked for again.
    pub(in crate::bpf) interrupted: bool,
}

impl Requests {
    /// Opens the socket.
    ///
    /// # Errors
    /// If the kernel lacks the protocol.
    pub(in crate::bpf) fn open(protocol: isize) -> io::Result<Self> {
        let mut socket = TokioSocket::new(protocol)?;
        socket.socket_mut().bind(&SocketAddr::new(0, 0))?;
        Ok(Self { socket })
    }

    /// Sends one or more messages and collects the answer up to the acknowledgement (or the end of the dump) of the message `last`.
    ///
    /// # Errors
    /// The kernel's first refusal, whichever message it is about; `TimedOut` if there is no answer.
    pub(in crate::bpf) async fn ask(&self, request: &[u8], last: u32) -> io::Result<Answer> {
        let kernel = SocketAddr::new(0, 0);
        poll_fn(|cx| self.socket.poll_send_to(cx, request, &kernel)).await?;
        timeout(ANSWER_TIMEOUT, self.collect(last))
            .await
            .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
    }

    async fn collect(&self, last: u32) -> io::Result<Answer> {
        let mut answer = Answer::default();
        for _ in 0..DATAGRAMS_MAX {
            let mut datagram = Vec::with_capacity(DATAGRAM_BYTES);
            poll_fn(|cx| self.socket.poll_recv(cx, &mut datagram)).await?;
            if read_datagram(&datagram, last, &mut answer)? {
                return Ok(answer);
            }
        }
        Err(io::Error::other(format!(
            "more than {DATAGRAMS_MAX} datagrams of answer"
        )))
    }
}

/// Adds a datagram's messages to the answer; true when the message `last` has been answered in full.
pub(super) fn read_datagram(mut datagram: &[u8], last: u32, answer: &mut Answer) -> io::Result<bool> {
    let mut complete = false;
    while let Some((header, rest)) = datagram.split_first_chunk::<HEADER_BYTES>() {
        let word = |at: usize| u32::from_ne_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
        let half = |at: usize| u16::from_ne_bytes([header[at], header[at + 1]]);
        let (length, kind, flags, sequence) = (word(0) as usize, half(4), half(6), word(8));
        let payload = length.checked_sub(HEADER_BYTES).and_then(|bytes| rest.get(..bytes));
        let payload = payload.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))?;
        answer.interrupted |= flags & NLM_F_DUMP_INTR != 0;
        match kind {
            NLMSG_ERROR | NLMSG_DONE => {
                // DONE of a dump may carry an error as well; both start with a negative errno
                if let Some((code, _)) = payload.split_first_chunk::<4>()
                    && i32::from_ne_bytes(*code) < 0
                {
                    return Err(io::Error::from_raw_os_error(-i32::from_ne_bytes(*code)));
                }
                complete |= sequence == last;
            }
            _ => answer.messages.push((kind, payload.to_vec())),
        }
        datagram = rest.get(payload.len().next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(complete)
}
