//! A worker's upstream HTTP connections: kept for the same client pod and endpoint, never handed to another.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    io,
    net::{IpAddr, SocketAddr},
    rc::{Rc, Weak},
    sync::Arc,
};

use futures_util::future::{FutureExt as _, LocalBoxFuture, Shared, WeakShared};
use hyper::{
    Request, Response,
    body::Incoming,
    client::conn::{TrySendError, http1, http2},
};
use tokio::{
    net::TcpStream,
    time::{Instant, sleep, timeout_at},
};

use super::{
    Worker,
    bounds::{POOL_HTTP2_TOTAL, POOL_IDLE_PER_KEY, POOL_IDLE_TIMEOUT, POOL_IDLE_TOTAL, POOL_SWEEP_INTERVAL},
    choose::{Attempt, ConnectionPermit, SharedPermit},
    dial::{self, Source},
    http::{client, replay::Outgoing},
    identify::Connection,
    metrics::Metrics,
    outcome::Limit,
    route::Candidate,
    socket,
};
use crate::task;

/// Who may share a connection: what the endpoint sees of the client must be the same.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key {
    client: IpAddr,
    /// HTTP/2: the client connection's port, else 0. Streams of one client connection share an upstream connection, as they would without us;
    /// those of another would wait for windows and stream limits that they have no part in.
    client_port: u16,
    /// The pod's UID: its address may pass to another pod while a connection idles.
    uid: Option<String>,
    source: Source,
    endpoint: SocketAddr,
}

/// The worker's pool.
#[derive(Default)]
pub(super) struct Pool {
    http1: Rc<RefCell<Idle>>,
    http2: RefCell<HashMap<Key, Rc<Slot>>>,
}

/// Idle HTTP/1 connections; the latest used is last, and taken first.
#[derive(Default)]
pub(super) struct Idle {
    by_key: HashMap<Key, Vec<Kept>>,
    count: usize,
}

struct Kept {
    sender: http1::SendRequest<Outgoing>,
    socket: Arc<TcpStream>,
    since: Instant,
}

/// The one HTTP/2 connection of a key. A burst of streams joins one dial and shares its end, be it a failure: if each dialled again for
/// itself, the last would wait for all the others.
pub(super) struct Slot {
    sender: RefCell<Option<(http2::SendRequest<Outgoing>, SharedPermit)>>,
    /// The dial under way; weak, because a dial that nobody waits for ends.
    dial: RefCell<Option<WeakShared<Dialling>>>,
    used: Cell<Instant>,
    /// Cloned by each stream: alone, the connection is idle.
    streams: Rc<()>,
}

type Dialling = LocalBoxFuture<'static, Result<http2::SendRequest<Outgoing>, NoConnection>>;

/// Why there is no connection for a request: nothing of it was sent.
#[derive(Clone, Debug)]
pub(super) enum NoConnection {
    /// The endpoint did not accept.
    Failed(Arc<io::Error>),
    /// There may be no more.
    Overflow(Limit),
}

/// A connected socket that has carried nothing yet.
pub(super) struct Fresh {
    /// The socket.
    pub(super) socket: Arc<TcpStream>,
    /// Held while the connection is in use: not while it idles in the pool.
    pub(super) permit: Option<ConnectionPermit>,
}

/// A connection lent for one request.
pub(super) enum Lease {
    /// HTTP/1: exclusive. Goes back to the pool when the answer has been read to its end.
    Http1 {
        sender: http1::SendRequest<Outgoing>,
        socket: Arc<TcpStream>,
        /// Free when this is dropped, whatever became of the request: who asks next does not wait for the task that closes the connection. What the
        /// connection was upgraded to holds the whole lease.
        permit: Option<ConnectionPermit>,
        key: Key,
        pool: Weak<RefCell<Idle>>,
        worker: Rc<Worker>,
    },
    /// HTTP/2: shared.
    Http2 {
        sender: http2::SendRequest<Outgoing>,
        stream: Stream,
    },
}

/// One stream's part in the connection of a slot. The last one that ends leaves it idle.
pub(super) struct Stream {
    slot: Rc<Slot>,
    _count: Rc<()>,
}

impl Stream {
    fn of(slot: Rc<Slot>) -> Self {
        let count = Rc::clone(&slot.streams);
        Self { slot, _count: count }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        if self.slot.has_one_stream()
            && let Some((_, permit)) = &*self.slot.sender.borrow()
        {
            permit.give_back();
        }
    }
}

impl Pool {
    /// A connection for one HTTP/1 request: kept, or dialled (always dialled if `fresh`).
    pub(super) async fn http1(
        worker: &Rc<Worker>,
        client: &Connection,
        to: &Attempt,
        fresh: bool,
        until: Instant,
    ) -> Result<Lease, NoConnection> {
        let key = key(client, &to.candidate);
        if !fresh && let Some((sender, socket)) = worker.pool.take(&worker.shared.metrics, &key) {
            let permit = to.connection()?;
            return Ok(Lease::http1(worker, key, sender, Fresh { socket, permit }));
        }
        let permit = to.connection()?;
        let socket = dial::connect(worker, client.client.ip(), &to.candidate, until).await?;
        to.dialled(worker);
        Self::http1_over(worker, client, to, Fresh { socket, permit }).await
    }

    /// A connection for one HTTP/1 request over a socket that is already connected.
    pub(super) async fn http1_over(
        worker: &Rc<Worker>,
        client: &Connection,
        to: &Attempt,
        fresh: Fresh,
    ) -> Result<Lease, NoConnection> {
        let sender = client::http1(Arc::clone(&fresh.socket)).await?;
        Ok(Lease::http1(worker, key(client, &to.candidate), sender, fresh))
    }

    /// A connection for one HTTP/2 request; `early` is a connected socket that becomes the key's connection if it has none.
    pub(super) async fn http2(
        worker: &Rc<Worker>,
        client: &Connection,
        to: &Attempt,
        early: Option<Fresh>,
        until: Instant,
    ) -> Result<Lease, NoConnection> {
        let key = Key {
            client_port: client.client.port(),
            ..key(client, &to.candidate)
        };
        let slot = worker.pool.slot(&worker.shared.metrics, key, POOL_HTTP2_TOTAL);
        slot.used.set(Instant::now());
        // before the wait: whoever ends meanwhile is not the last
        let stream = Stream::of(Rc::clone(&slot));
        let sender = match slot.open(&worker.shared.metrics) {
            Some((sender, permit)) => {
                permit.take_again(to)?;
                sender
            }
            None => timeout_at(until, slot.dial(worker, client.client.ip(), to, early))
                .await
                .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??,
        };
        Ok(Lease::Http2 { sender, stream })
    }

    /// The key's slot; one that nobody else finds if there are `most` already.
    fn slot(&self, metrics: &Metrics, key: Key, most: usize) -> Rc<Slot> {
        let mut slots = self.http2.borrow_mut();
        if let Some(slot) = slots.get(&key) {
            return Rc::clone(slot);
        }
        let slot = Rc::new(Slot::new());
        if slots.len() >= most {
            metrics.limit_reached("pool_http2_total");
        } else {
            slots.insert(key, Rc::clone(&slot));
            metrics.pool_http2.inc();
        }
        slot
    }

    /// An idle HTTP/1 connection that is still open.
    fn take(&self, metrics: &Metrics, key: &Key) -> Option<(http1::SendRequest<Outgoing>, Arc<TcpStream>)> {
        loop {
            let Kept { sender, socket, since } = self.http1.borrow_mut().take(key)?;
            metrics.pool_idle.dec();
            if since.elapsed() < POOL_IDLE_TIMEOUT && sender.is_ready() && socket::is_idle(&socket) {
                return Some((sender, socket));
            }
            metrics.stale("when_taken");
        }
    }

    /// Closes what has been idle for too long, for ever.
    pub(super) async fn sweep(&self, metrics: &Metrics) {
        loop {
            sleep(POOL_SWEEP_INTERVAL).await;
            let closed = self.http1.borrow_mut().sweep();
            metrics.pool_idle.sub(i64::try_from(closed).unwrap_or(i64::MAX));
            let mut slots = self.http2.borrow_mut();
            let before = slots.len();
            slots.retain(|_, slot| !slot.is_over());
            metrics
                .pool_http2
                .sub(i64::try_from(before - slots.len()).unwrap_or(i64::MAX));
        }
    }
}

impl Lease {
    fn http1(worker: &Rc<Worker>, key: Key, sender: http1::SendRequest<Outgoing>, over: Fresh) -> Self {
        let Fresh { socket, permit } = over;
        Self::Http1 {
            sender,
            socket,
            permit,
            key,
            pool: Rc::downgrade(&worker.pool.http1),
            worker: Rc::clone(worker),
        }
    }

    /// Sends a request. The error holds the request if no byte of it was sent.
    pub(super) async fn send(
        &mut self,
        request: Request<Outgoing>,
    ) -> Result<Response<Incoming>, TrySendError<Request<Outgoing>>> {
        match self {
            Self::Http1 { sender, .. } => sender.try_send_request(request).await,
            Self::Http2 { sender, .. } => sender.try_send_request(request).await,
        }
    }

    /// The answer has been read to its end: the connection may serve another request, and is not in use until then. Where connections are at their limit it
    /// is closed instead, so that idle ones do not come on top.
    pub(super) fn give_back(self, is_crowded: bool) {
        if is_crowded {
            return self.close();
        }
        let Self::Http1 {
            mut sender,
            socket,
            permit,
            key,
            pool,
            worker,
        } = self
        else {
            return;
        };
        if sender.is_closed() {
            return;
        }
        drop(permit);
        // hyper's side of the connection learns of the answer's end a moment after us
        task::spawn("pool", async move {
            if sender.ready().await.is_ok()
                && let Some(pool) = pool.upgrade()
            {
                put(
                    &worker.shared.metrics,
                    &pool,
                    key,
                    Kept {
                        sender,
                        socket,
                        since: Instant::now(),
                    },
                );
            }
        });
    }
}

impl Lease {
    /// The answer is not read to its end. One that others still use stays; so does one of HTTP/2, unless connections are at their limit.
    pub(super) fn abandon(self, is_crowded: bool) {
        if is_crowded {
            self.close();
        }
    }

    /// Closes the connection and gives back its place; one that others still use stays.
    fn close(self) {
        if let Self::Http2 { stream, .. } = self {
            stream.slot.close_if_last();
        }
    }
}

fn put(metrics: &Metrics, pool: &RefCell<Idle>, key: Key, kept: Kept) {
    match pool.borrow_mut().put(key, kept) {
        Ok(()) => metrics.pool_idle.inc(),
        Err(limit) => metrics.limit_reached(limit),
    }
}

impl Idle {
    fn take(&mut self, key: &Key) -> Option<Kept> {
        let kept = self.by_key.get_mut(key)?;
        let last = kept.pop();
        if kept.is_empty() {
            self.by_key.remove(key);
        }
        self.count -= usize::from(last.is_some());
        last
    }

    /// The error is the name of the bound that was reached.
    fn put(&mut self, key: Key, kept: Kept) -> Result<(), &'static str> {
        if self.count >= POOL_IDLE_TOTAL {
            return Err("pool_idle_total");
        }
        let list = self.by_key.entry(key).or_default();
        if list.len() >= POOL_IDLE_PER_KEY {
            return Err("pool_idle_per_key");
        }
        list.push(kept);
        self.count += 1;
        Ok(())
    }

    /// How many were closed.
    fn sweep(&mut self) -> usize {
        let before = self.count;
        self.by_key.retain(|_, list| {
            list.retain(|kept| kept.since.elapsed() < POOL_IDLE_TIMEOUT && !kept.sender.is_closed());
            !list.is_empty()
        });
        self.count = self.by_key.values().map(Vec::len).sum();
        before - self.count
    }
}

impl Slot {
    fn new() -> Self {
        Self {
            sender: RefCell::new(None),
            dial: RefCell::new(None),
            used: Cell::new(Instant::now()),
            streams: Rc::new(()),
        }
    }

    /// Closes the connection, if the stream that ends now is the only one.
    fn close_if_last(&self) {
        if self.has_one_stream()
            && let Some((_, permit)) = self.sender.borrow_mut().take()
        {
            permit.give_back();
        }
    }

    /// Whether the stream that asks is the only one.
    fn has_one_stream(&self) -> bool {
        // one is the slot's own
        Rc::strong_count(&self.streams) == 2
    }

    /// The connection, if it is still open.
    fn open(&self, metrics: &Metrics) -> Option<(http2::SendRequest<Outgoing>, SharedPermit)> {
        let mut kept = self.sender.borrow_mut();
        if kept.as_ref()?.0.is_closed() {
            metrics.stale("when_taken");
            *kept = None;
        }
        kept.clone()
    }

    /// Joins the dial under way, or begins one. It has a bound of its own: those who join it later have more time than who began it.
    fn dial(
        self: &Rc<Self>,
        worker: &Rc<Worker>,
        client: IpAddr,
        to: &Attempt,
        early: Option<Fresh>,
    ) -> Shared<Dialling> {
        if let Some(dial) = self.dialling() {
            return dial;
        }
        let (slot, worker, listener) = (Rc::clone(self), Rc::clone(worker), to.listener());
        // an early one has its permit: a second one would be too many
        let fresh = early.map_or_else(|| Err(to.connection()), Ok);
        let to = to.candidate.clone();
        let dial = async move {
            let Fresh { socket, permit } = match fresh {
                Ok(early) => early,
                Err(permit) => {
                    let permit = permit?;
                    let socket = dial::connect(&worker, client, &to, dial::deadline()).await?;
                    listener.dialled(&worker);
                    Fresh { socket, permit }
                }
            };
            let permit = SharedPermit::new(permit);
            let sender = client::http2(socket, permit.clone()).await?;
            *slot.sender.borrow_mut() = Some((sender.clone(), permit));
            Ok(sender)
        };
        let dial = dial.boxed_local().shared();
        *self.dial.borrow_mut() = dial.downgrade();
        dial
    }

    /// The dial that has begun and not ended.
    fn dialling(&self) -> Option<Shared<Dialling>> {
        let dial = self.dial.borrow().as_ref()?.upgrade()?;
        // its last waiters may not have looked yet
        dial.peek().is_none().then_some(dial)
    }

    fn is_over(&self) -> bool {
        let idle = Rc::strong_count(&self.streams) == 1 && self.dialling().is_none();
        idle && (self.used.get().elapsed() >= POOL_IDLE_TIMEOUT
            || self
                .sender
                .borrow()
                .as_ref()
                .is_none_or(|(sender, _)| sender.is_closed()))
    }
}

impl From<io::Error> for NoConnection {
    fn from(error: io::Error) -> Self {
        Self::Failed(Arc::new(error))
    }
}

impl From<Limit> for NoConnection {
    fn from(limit: Limit) -> Self {
        Self::Overflow(limit)
    }
}

fn key(client: &Connection, to: &Candidate) -> Key {
    Key {
        client: client.client.ip(),
        client_port: 0,
        uid: client.source.as_ref().map(|pod| pod.uid.clone()),
        source: to.source,
        endpoint: to.address,
    }
}

#[cfg(test)]
mod tests;
