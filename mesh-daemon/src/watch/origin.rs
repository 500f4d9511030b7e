//! Where objects come from, as the publisher sees it: something that changes, and what it holds now.

use super::{
    Echo, Error, Metrics, Options, Source,
    changes::Changes,
    cluster::Cluster,
    kept::Kept,
    manifest::Directory,
    objects::{Kind, Objects},
    state::Place,
};
use crate::ready::{Pending, Readiness};

/// An open [`Source`].
pub(super) enum Origin {
    /// Files.
    Directory(Box<Files>),
    /// An API server, and its last good state.
    Cluster(Box<Kept<Cluster>>),
}

/// A directory of manifests.
pub(super) struct Files {
    directory: Directory,
    /// When they change.
    changes: Changes,
    /// What they said last.
    objects: Objects,
}

/// Held until a directory was read once. The watches of an API server tell of each kind themselves.
pub(super) fn waiting(source: &Source, readiness: &Readiness) -> Vec<Pending> {
    match source {
        Source::Manifests(_) => Kind::ALL
            .iter()
            .map(|kind| readiness.wait_for(format!("list of {}", kind.plural())))
            .collect(),
        Source::Cluster(_) => Vec::new(),
    }
}

impl Origin {
    /// Reads what can be read at once, and tells readiness what is waited for beside `pending`.
    pub(super) async fn open(
        source: Source,
        pending: Vec<Pending>,
        options: &Options,
        echo: Echo,
        readiness: &Readiness,
        metrics: &Metrics,
    ) -> Result<Self, Error> {
        match source {
            Source::Manifests(path) => {
                // watched before it is read: a change in between is read again
                let changes = Changes::of(path.clone())?;
                let directory = Directory::open(path)?;
                drop(pending);
                let objects = directory.objects();
                Ok(Self::Directory(Box::new(Files {
                    directory,
                    changes,
                    objects,
                })))
            }
            Source::Cluster(source) => {
                let place = Place {
                    directory: source.state_dir.clone(),
                    node: options.node.clone(),
                    age_max: source.state_age_max,
                };
                let cluster = Cluster::open(source, options, echo, readiness, metrics).await?;
                let kept = Kept::new(cluster, place, readiness.clone(), metrics.clone());
                Ok(Self::Cluster(Box::new(kept)))
            }
        }
    }

    /// Returns once the objects may say something new. Cancel-safe.
    pub(super) async fn changed(&mut self) {
        match self {
            Self::Directory(files) => {
                files.changes.next().await;
                files.directory.refresh();
                files.changes.renew(files.directory.is_gone());
                let mut objects = files.directory.objects();
                objects.inherit(&files.objects);
                files.objects = objects;
            }
            Self::Cluster(cluster) => cluster.changed().await,
        }
    }

    /// Whether every kind has had its first full list, or there is a saved state to serve instead: nothing is published before.
    pub(super) fn is_complete(&self) -> bool {
        match self {
            Self::Directory(_) => true,
            Self::Cluster(cluster) => cluster.is_complete(),
        }
    }

    /// What a list of every kind would say now.
    pub(super) fn objects(&self) -> &Objects {
        match self {
            Self::Directory(files) => &files.objects,
            Self::Cluster(cluster) => cluster.objects(),
        }
    }

    /// Leaves everything as a successor wants to find it.
    pub(super) async fn close(self) {
        match self {
            Self::Directory(_) => {}
            Self::Cluster(kept) => kept.close().await,
        }
    }
}
