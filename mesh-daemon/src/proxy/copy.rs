//! Bytes both ways: half-close as half-close, reset as reset, no timeout, flat memory.

use std::{
    cell::{Cell, RefCell},
    io,
    pin::pin,
};

use prometheus::IntCounter;
use tokio::{net::TcpStream, task};

use super::{
    bounds::{COPY_BUFFER_BYTES, COPY_BUFFERS_KEPT, COPY_TURN_BYTES},
    outcome::Outcome,
    socket::{self, Stream},
};

/// A worker's copy buffers. One is taken only when there are bytes to carry.
#[derive(Debug, Default)]
pub(super) struct Buffers {
    kept: RefCell<Vec<Box<[u8]>>>,
}

/// Counts bytes while they pass.
#[derive(Debug)]
pub(super) struct Bytes {
    /// From the client to the upstream.
    pub sent: Counter,
    /// From the upstream to the client.
    pub received: Counter,
}

/// Counts the bytes of one direction: in a metric that other connections share, and for this one alone.
#[derive(Debug)]
pub(super) struct Counter {
    metric: IntCounter,
    own: Cell<u64>,
}

impl Counter {
    /// Counts in `metric` too.
    pub(super) fn new(metric: IntCounter) -> Self {
        Self {
            metric,
            own: Cell::new(0),
        }
    }

    /// Bytes have passed.
    pub(super) fn add(&self, count: usize) {
        self.metric.inc_by(count as u64);
        self.own.set(self.own.get() + count as u64);
    }

    /// Of this connection.
    pub(super) fn get(&self) -> u64 {
        self.own.get()
    }
}

/// The side whose connection broke.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Broken {
    From,
    To,
}

/// Copies until both sides have ended, or one breaks: then the other is reset too.
pub(super) async fn both(buffers: &Buffers, client: Stream, upstream: Stream, bytes: &Bytes) -> Outcome {
    let (client, said) = (client.socket, client.first);
    let (upstream, answered) = (upstream.socket, upstream.first);
    // whatever ends this before both sides have (the daemon's death among it) must not look like an end of the data
    socket::reset_on_close(&client);
    socket::reset_on_close(&upstream);
    let outcome = {
        let mut up = pin!(one_way(buffers, &client, said, &upstream, &bytes.sent));
        let mut down = pin!(one_way(buffers, &upstream, answered, &client, &bytes.received));
        let client_broke = Outcome::ClientReset;
        let upstream_broke = Outcome::UpstreamReset;
        let up_outcome = |result| match result {
            Ok(()) => Outcome::Completed,
            Err(Broken::From) => client_broke,
            Err(Broken::To) => upstream_broke,
        };
        let down_outcome = |result| match result {
            Ok(()) => Outcome::Completed,
            Err(Broken::From) => upstream_broke,
            Err(Broken::To) => client_broke,
        };
        // a side that has half-closed is no longer read: its reset must be watched for
        tokio::select! {
            result = &mut up => match up_outcome(result) {
                Outcome::Completed => tokio::select! {
                    biased;
                    result = &mut down => down_outcome(result),
                    () = socket::reset(&client) => client_broke,
                },
                broken => broken,
            },
            result = &mut down => match down_outcome(result) {
                Outcome::Completed => tokio::select! {
                    biased;
                    result = &mut up => up_outcome(result),
                    () = socket::reset(&upstream) => upstream_broke,
                },
                broken => broken,
            },
        }
    };
    if outcome == Outcome::Completed {
        socket::end_in_order(&client);
        socket::end_in_order(&upstream);
    }
    outcome
}

async fn one_way(
    buffers: &Buffers,
    from: &TcpStream,
    first: bytes::Bytes,
    to: &TcpStream,
    counter: &Counter,
) -> Result<(), Broken> {
    write_all(from, to, &first).await?;
    counter.add(first.len());
    // an idle connection keeps no buffer
    drop(first);
    let mut turn = 0;
    loop {
        // the tries below never wait while both sides keep up, so the worker's other tasks get their turn here
        if turn >= COPY_TURN_BYTES {
            turn = 0;
            task::yield_now().await;
        }
        task::consume_budget().await;
        from.readable().await.map_err(|_| Broken::From)?;
        let mut buffer = buffers.take();
        match from.try_read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => {
                write_all(from, to, &buffer[..count]).await?;
                counter.add(count);
                turn += count;
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => return Err(Broken::From),
        }
        buffers.give_back(buffer);
    }
    // the other side may have closed for good meanwhile, which its own direction finds out
    let _ = socket::shut_write(to);
    Ok(())
}

/// Writes bytes of `from`. While `to` takes no more, a reset of `from` ends the wait: as without us, the reset overtakes what the receiver
/// has no room for.
async fn write_all(from: &TcpStream, to: &TcpStream, mut bytes: &[u8]) -> Result<(), Broken> {
    while !bytes.is_empty() {
        match to.try_write(bytes) {
            Ok(count) => bytes = &bytes[count..],
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => tokio::select! {
                biased;
                room = to.writable() => room.map_err(|_| Broken::To)?,
                () = socket::reset(from) => return Err(Broken::From),
            },
            Err(_) => return Err(Broken::To),
        }
    }
    Ok(())
}

impl Buffers {
    fn take(&self) -> Box<[u8]> {
        self.kept
            .borrow_mut()
            .pop()
            .unwrap_or_else(|| vec![0; COPY_BUFFER_BYTES].into_boxed_slice())
    }

    fn give_back(&self, buffer: Box<[u8]>) {
        let mut kept = self.kept.borrow_mut();
        if kept.len() < COPY_BUFFERS_KEPT {
            kept.push(buffer);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::{
        io::AsyncReadExt as _,
        net::{TcpListener, TcpSocket},
        sync::oneshot,
    };

    use super::*;

    async fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let dial = TcpSocket::new_v4().unwrap().connect(listener.local_addr().unwrap());
        let (dialled, accepted) = tokio::join!(dial, listener.accept());
        (dialled.unwrap(), accepted.unwrap().0)
    }

    /// Bytes whose owner says when it is freed.
    struct Told {
        bytes: [u8; 5],
        _gone: oneshot::Sender<()>,
    }

    impl AsRef<[u8]> for Told {
        fn as_ref(&self) -> &[u8] {
            &self.bytes
        }
    }

    #[tokio::test]
    async fn an_idle_connection_keeps_no_first_bytes() {
        let (_client, from_client) = pair().await;
        let (mut upstream, to_upstream) = pair().await;
        let (told, gone) = oneshot::channel();
        let first = bytes::Bytes::from_owner(Told {
            bytes: *b"HELLO",
            _gone: told,
        });
        let stream = |first, socket| Stream {
            first,
            socket: Arc::new(socket),
        };
        let bytes = Bytes {
            sent: Counter::new(IntCounter::new("sent", "sent").unwrap()),
            received: Counter::new(IntCounter::new("received", "received").unwrap()),
        };
        let buffers = Buffers::default();
        let copying = both(
            &buffers,
            stream(first, from_client),
            stream(bytes::Bytes::new(), to_upstream),
            &bytes,
        );
        let reading = async {
            let mut got = [0; 5];
            upstream.read_exact(&mut got).await.unwrap();
            assert_eq!(&got, b"HELLO");
            assert!(gone.await.is_err(), "freed, not told");
        };
        tokio::select! {
            outcome = copying => panic!("both sides are open, yet it ended: {outcome:?}"),
            () = reading => {}
        }
    }
}
