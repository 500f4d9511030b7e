//! Kubernetes objects from a directory of manifests → trimmed inputs → published snapshots. The API server will be another [`Source`].

mod publish;
pub mod manifest;
mod changes;
pub mod objects;
mod document;
mod convert;
mod pod;
mod service;
mod endpoint_slice;
mod namespace;
mod node;
mod metrics;

use std::{path::PathBuf, sync::Arc};

use ipnet::IpNet;
use tokio::sync::watch;

pub use metrics::Metrics;

use crate::{
    ids::NodeName,
    model::{Facts, Snapshot},
    ready::{self, Readiness},
};

/// Where objects come from.
#[derive(Clone, Debug)]
pub enum Source {
    /// A directory of manifests, as `kubectl get -o yaml` prints them.
    Manifests(PathBuf),
}

/// What the model must know beside objects and facts.
#[derive(Clone, Debug)]
pub struct Options {
    /// This node.
    pub node: NodeName,
    /// Pod ranges from the settings, beside the Nodes' own.
    pub pod_cidrs: Vec<IpNet>,
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
}

/// Held until every kind has been listed once.
#[derive(Debug)]
pub struct Pending {
    _kinds: Vec<ready::Pending>,
}

/// The node is not ready before every kind has been listed once.
#[must_use]
pub fn pending(readiness: &Readiness) -> Pending {
    let wait = |kind: &objects::Kind| readiness.wait_for(format!("list of {}", kind.plural()));
    Pending {
        _kinds: objects::Kind::ALL.iter().map(wait).collect(),
    }
}

/// Publishes snapshots until the sender of facts is gone.
///
/// # Errors
/// If the source cannot be read at the start.
pub async fn run(
    source: Source,
    options: Options,
    mut facts: watch::Receiver<Option<Facts>>,
    snapshots: watch::Sender<Option<Arc<Snapshot>>>,
    pending: Pending,
    metrics: Metrics,
) -> Result<(), Error> {
    let Source::Manifests(path) = source;
    // watched before it is read: a change in between is read again
    let mut changes = changes::Changes::of(path.clone())?;
    let mut directory = manifest::Directory::open(path)?;
    drop(pending);
    let mut objects = directory.objects();
    let mut publisher = publish::Publisher::new(options, snapshots, metrics);
    loop {
        let latest = facts.borrow_and_update().clone();
        publisher.publish(&objects, latest.as_ref());
        tokio::select! {
            changed = facts.changed() => if changed.is_err() {
                return Ok(());
            },
            () = changes.next() => {
                directory.refresh();
                changes.renew(directory.is_gone());
                objects = directory.objects();
            }
        }
    }
}

#[cfg(test)]
mod tests;
