//! Statuses of routes and policies, which are the whole cluster's: a Lease elects the one daemon that writes them. Nothing else waits for it.

mod candidate;
mod lease;
mod entries;
mod backlog;
mod write;

use std::{
    convert::Infallible,
    future::pending,
    hash::{BuildHasher as _, Hasher as _, RandomState},
    sync::Arc,
    time::Duration,
};

use futures_util::future::join;
use tokio::{
    sync::{oneshot, watch},
    time::{Instant, sleep_until},
};

use self::{
    backlog::{Backlog, Next as NextWrite},
    candidate::{Candidate, Next},
    entries::{Key, Wanted, due},
    lease::Holder,
};
use super::{
    super::{Metrics, claims::Claims},
    StatusMetrics,
    bucket::Bucket,
    changed,
    log::Log,
    random, reached,
    write::Object,
};
use crate::{ids::NodeName, model::Snapshot};

/// Time in which one token grows, of which each request costs one: 50 requests a second from one daemon of the cluster, as much as the scheduler
/// may send by default. They are apart from those for pods and Events, so that neither keeps the other waiting.
const TOKEN_EVERY: Duration = Duration::from_millis(20);
/// Most tokens: the routes of one application, which are applied together and waited for.
const TOKENS_MAX: u32 = 50;
/// Least time between two looks at what changed: thousands of routes are compared each time.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// What the writer sees.
pub(in crate::watch) struct Sight {
    /// What is published: a verdict is about what is valid, so it does not wait for this node's kernel, which may be in trouble.
    pub(in crate::watch) snapshots: watch::Receiver<Option<Arc<Snapshot>>>,
    /// What the API has.
    pub(in crate::watch) claims: watch::Receiver<Arc<Claims>>,
    /// How many nodes there are; 0 until every list is complete.
    pub(in crate::watch) nodes: watch::Receiver<usize>,
}

/// Takes part in the election, and writes while it leads. Ends when `stop` is gone, once the lease is let go.
pub(in crate::watch) async fn run(
    client: kube::Client,
    node: NodeName,
    sight: Sight,
    metrics: Metrics,
    stop: oneshot::Receiver<()>,
) {
    let (term, leads) = watch::channel(None);
    let Sight {
        snapshots,
        claims,
        nodes,
    } = sight;
    let writer = Writer {
        client: client.clone(),
        metrics: metrics.status().clone(),
        backlog: Backlog::new(random),
        bucket: Bucket::new(TOKEN_EVERY, TOKENS_MAX, Instant::now()),
        log: Log::default(),
    };
    let candidacy = Candidacy {
        holder: Holder::new(client, identity(&node)),
        nodes,
        term,
        metrics: metrics.status().clone(),
    };
    join(candidacy.run(stop), writer.run(snapshots, claims, leads)).await;
}

/// Who this process is in the lease: a daemon that starts again on the same node is another one.
fn identity(node: &NodeName) -> String {
    format!("{node}_{:016x}", RandomState::new().build_hasher().finish())
}

/// The part of this node in the election.
struct Candidacy {
    holder: Holder,
    nodes: watch::Receiver<usize>,
    /// Until when this node may write.
    term: watch::Sender<Option<Instant>>,
    metrics: StatusMetrics,
}

impl Candidacy {
    async fn run(mut self, stop: oneshot::Receiver<()>) {
        tokio::select! {
            never = self.stand() => match never {},
            _ = stop => {}
        }
        let led = self.term.send_replace(None).is_some_and(|until| until > Instant::now());
        self.metrics.leads(false);
        // ends the writer too
        drop(self.term);
        if led {
            self.holder.release().await;
        }
    }

    async fn stand(&mut self) -> Infallible {
        // what would be written comes of complete lists
        if self.nodes.wait_for(|nodes| *nodes > 0).await.is_err() {
            pending::<()>().await;
        }
        let nodes = *self.nodes.borrow();
        let mut candidate = Candidate::new(self.holder.me().to_owned(), nodes, random, Instant::now());
        let mut log = Log::default();
        loop {
            match candidate.next(Instant::now()) {
                Next::At(at) => sleep_until(at).await,
                Next::Ask(step) => {
                    let asked = Instant::now();
                    let (said, trouble) = self.holder.ask(step).await;
                    candidate.settle(step, said, asked, *self.nodes.borrow(), Instant::now());
                    log.tell(Object::Lease, trouble.as_ref(), candidate.is_well());
                }
            }
            self.publish(candidate.leads_until(Instant::now()));
        }
    }

    fn publish(&self, until: Option<Instant>) {
        let before = self.term.send_replace(until);
        if before.is_some() != until.is_some() {
            self.metrics.leads(until.is_some());
            match until {
                Some(_) => tracing::info!("this node writes the statuses of routes and policies from now on"),
                None => tracing::info!("this node writes the statuses of routes and policies no longer"),
            }
        }
    }
}

/// Writes while this node leads.
struct Writer {
    client: kube::Client,
    metrics: StatusMetrics,
    backlog: Backlog,
    bucket: Bucket,
    log: Log,
}

impl Writer {
    async fn run(
        mut self,
        mut snapshots: watch::Receiver<Option<Arc<Snapshot>>>,
        mut claims: watch::Receiver<Arc<Claims>>,
        mut leads: watch::Receiver<Option<Instant>>,
    ) {
        while begun(&mut leads).await {
            tokio::select! {
                never = self.write(&mut snapshots, &mut claims) => match never {},
                // a request that is under way is given up: another one may write from now on
                () = ended(&mut leads) => {}
            }
            self.backlog = Backlog::new(random);
            self.metrics.statuses_pending(0);
        }
    }

    async fn write(
        &mut self,
        snapshots: &mut watch::Receiver<Option<Arc<Snapshot>>>,
        claims: &mut watch::Receiver<Arc<Claims>>,
    ) -> Infallible {
        let (mut is_stale, mut look_at) = (true, Instant::now());
        loop {
            let now = Instant::now();
            is_stale |= has_changed(snapshots) || has_changed(claims);
            if is_stale && look_at <= now {
                let snapshot = snapshots.borrow_and_update().clone();
                let claims = claims.borrow_and_update().clone();
                let due = snapshot.map(|snapshot| due(&snapshot.content, &claims));
                self.backlog.observe(due.unwrap_or_default(), now);
                (is_stale, look_at) = (false, now + LOOK_EVERY);
            }
            self.metrics.statuses_pending(self.backlog.pending());
            let until = match self.next(now) {
                NextWrite::Write(key, wanted) => {
                    self.send(&key, &wanted).await;
                    continue;
                }
                NextWrite::At(at) => Some(at),
                NextWrite::Idle => None,
            };
            tokio::select! {
                () = changed(snapshots) => is_stale = true,
                () = changed(claims) => is_stale = true,
                () = reached(until) => {}
            }
            if is_stale {
                sleep_until(look_at).await;
            }
        }
    }

    fn next(&mut self, now: Instant) -> NextWrite {
        match self.backlog.next(now) {
            NextWrite::Write(key, wanted) => match self.bucket.take(write::REQUESTS, now) {
                Ok(()) => NextWrite::Write(key, wanted),
                Err(free_at) => NextWrite::At(free_at),
            },
            next => next,
        }
    }

    async fn send(&mut self, key: &Key, wanted: &Wanted) {
        let outcome = write::send(&self.client, key, wanted).await;
        let object = key.0.object();
        self.metrics.wrote(object, outcome.name());
        let is_well = self.backlog.settle(key, &outcome, Instant::now());
        self.log.tell(object, outcome.trouble(), is_well);
    }
}

/// Waits for a term; false if there will be none any more.
async fn begun(leads: &mut watch::Receiver<Option<Instant>>) -> bool {
    let is_term = |until: &Option<Instant>| until.is_some_and(|until| until > Instant::now());
    leads.wait_for(is_term).await.is_ok()
}

/// Waits for the end of the term, which each renewal puts off.
async fn ended(leads: &mut watch::Receiver<Option<Instant>>) {
    loop {
        let until = *leads.borrow_and_update();
        let Some(until) = until.filter(|until| *until > Instant::now()) else {
            return;
        };
        tokio::select! {
            () = sleep_until(until) => {}
            renewed = leads.changed() => if renewed.is_err() {
                return;
            },
        }
    }
}

fn has_changed<T>(receiver: &watch::Receiver<T>) -> bool {
    receiver.has_changed().unwrap_or_default()
}

#[cfg(test)]
mod tests;
