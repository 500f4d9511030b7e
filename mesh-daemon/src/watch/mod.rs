//! Kubernetes objects, from the API server or a directory of manifests → trimmed inputs → published snapshots; what became of them is
//! written back.

mod publish;
mod debounce;
mod trace;
mod origin;
pub mod manifest;
mod changes;
mod cluster;
mod status;
mod kept;
mod start;
mod state;
mod local;
mod claims;
pub mod objects;
mod last_good;
mod document;
mod convert;
mod pod;
mod service;
mod endpoint_slice;
mod http_route;
pub mod traffic_policy;
mod namespace;
mod node;
mod metrics;

use std::{path::PathBuf, sync::Arc, time::Duration};

use ipnet::IpNet;
use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};

pub use metrics::Metrics;

use self::{
    debounce::Debounce,
    origin::Origin,
    publish::{Published, Publisher},
    trace::Trace,
};
use crate::{
    ids::NodeName,
    model::{Ack, Facts, Snapshot},
    ready::Readiness,
};

/// Where objects come from.
#[derive(Clone, Debug)]
pub enum Source {
    /// A directory of manifests, as `kubectl get -o yaml` prints them.
    Manifests(PathBuf),
    /// An API server.
    Cluster(ClusterSource),
}

/// An API server, and what the daemon keeps for the time that it is away.
#[derive(Clone, Debug)]
pub struct ClusterSource {
    /// A kubeconfig file; none for the ServiceAccount that Kubernetes mounts into a pod.
    pub kubeconfig: Option<PathBuf>,
    /// Directory of the last good state.
    pub state_dir: PathBuf,
    /// A state older than this is refused.
    pub state_age_max: Duration,
}

/// What the model and the publisher must know beside objects and facts.
#[derive(Clone, Debug)]
pub struct Options {
    /// This node.
    pub node: NodeName,
    /// Pod ranges from the settings, beside the Nodes' own.
    pub pod_cidrs: Vec<IpNet>,
    /// How long it must be quiet before changes are published, so that a burst makes one snapshot.
    pub debounce_after: Duration,
    /// Longest time that a change waits for quiet.
    pub debounce_max: Duration,
}

/// The room's ends to the others.
#[derive(Debug)]
pub struct Ends {
    /// What the kernel says of this node.
    pub facts: watch::Receiver<Option<Facts>>,
    /// Where snapshots are published.
    pub snapshots: watch::Sender<Option<Arc<Snapshot>>>,
    /// What kernel and proxy hold.
    pub acks: watch::Receiver<Option<Ack>>,
}

/// What becomes of objects, for those who write it back.
struct Echo {
    /// What is published.
    snapshots: watch::Receiver<Option<Arc<Snapshot>>>,
    /// What kernel and proxy hold.
    acks: watch::Receiver<Option<Ack>>,
}

/// Why objects cannot be had at all.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The directory is missing or closed to us.
    #[error("cannot read the manifest directory {}: {source}; create it, or name another with --manifests", .path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// What the kernel said.
        source: std::io::Error,
    },
    /// A file is there and cannot be read.
    #[error("cannot read the manifest {}: {source}; make it readable, or move it out of the directory", .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        source: std::io::Error,
    },
    /// A file is not YAML (or JSON).
    #[error("the manifest {} does not parse: {detail}; correct it, or move it out of the directory", .path.display())]
    Unparsable {
        /// The file.
        path: PathBuf,
        /// What is wrong, with line and column.
        detail: String,
    },
    /// The kernel gives no inotify instance or watch.
    #[error("cannot watch the manifest directory {}: {source}; raise fs.inotify.max_user_instances and max_user_watches", .path.display())]
    Inotify {
        /// The directory.
        path: PathBuf,
        /// What the kernel said.
        source: std::io::Error,
    },
    /// The kubeconfig, or what a pod is given, cannot be used.
    #[error("{0}")]
    Client(String),
}

/// Publishes snapshots until the sender of facts is gone; then leaves what a successor needs. `readiness` is told at once what is waited for.
///
/// # Errors
/// If the source cannot be read at the start, or can never be.
pub fn run(
    source: Source,
    options: Options,
    ends: Ends,
    readiness: Readiness,
    metrics: Metrics,
) -> impl Future<Output = Result<(), Error>> {
    let pending = origin::waiting(&source, &readiness);
    async move {
        let echo = Echo {
            snapshots: ends.snapshots.subscribe(),
            acks: ends.acks.clone(),
        };
        let origin = Origin::open(source, pending, &options, echo, &readiness, &metrics).await?;
        follow(origin, options, ends, metrics).await;
        Ok(())
    }
}

async fn follow(mut origin: Origin, options: Options, ends: Ends, metrics: Metrics) {
    let Ends {
        mut facts,
        snapshots,
        mut acks,
    } = ends;
    let mut debounce = Debounce::new(options.debounce_after, options.debounce_max);
    let mut trace = Trace::new(metrics.clone());
    let mut publisher = Publisher::new(options, snapshots, metrics);
    // what was there at the start is the first change
    debounce.changed(Instant::now());
    loop {
        // looked at by hand, since a source that always has something new may leave a timer no turn
        if debounce.due().is_some_and(|due| due <= Instant::now()) {
            let latest = facts.borrow_and_update().clone();
            publish(&mut publisher, &origin, latest.as_ref(), &mut debounce, &mut trace);
        }
        tokio::select! {
            changed = facts.changed() => if changed.is_err() {
                return origin.close().await;
            },
            () = origin.changed() => {}
            Ok(()) = acks.changed() => {
                if let Some(ack) = &*acks.borrow_and_update() {
                    trace.acknowledged(ack, Instant::now());
                }
                continue;
            }
            () = until(debounce.due()) => continue,
        }
        let now = Instant::now();
        debounce.changed(now);
        trace.seen(now, publisher.next());
    }
}

/// Publishes what the origin holds, if it is complete and says anything new.
fn publish(
    publisher: &mut Publisher,
    origin: &Origin,
    facts: Option<&Facts>,
    debounce: &mut Debounce,
    trace: &mut Trace,
) {
    let started = Instant::now();
    let published = if origin.is_complete() {
        publisher.publish(origin.objects(), facts)
    } else {
        Published::NotYet
    };
    let ended = Instant::now();
    match published {
        Published::NotYet => {
            debounce.looked();
            trace.nothing_new();
        }
        Published::NothingNew => {
            debounce.published(started, ended);
            trace.nothing_new();
        }
        Published::As(generation) => {
            debounce.published(started, ended);
            trace.published(generation, ended);
        }
    }
}

async fn until(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests;
