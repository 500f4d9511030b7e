//! An API server as the source of objects: one watch per kind, relists swapped in whole, troubles told in sentences.

use tokio::sync::watch;

use super::{ClusterSource, Error, Metrics, Options, objects::Objects};
use crate::{model::Ack, ready::Readiness};

/// The watches, and what they have said.
pub(super) struct Cluster {
    objects: Objects,
}

impl Cluster {
    /// Makes the client and starts to watch. An API server that does not answer is no error: it is tried again and again.
    pub(super) async fn open(
        _source: ClusterSource,
        _options: &Options,
        _acks: watch::Receiver<Option<Ack>>,
        _readiness: &Readiness,
        _metrics: &Metrics,
    ) -> Result<Self, Error> {
        std::future::ready(()).await;
        Ok(Self {
            objects: Objects::default(),
        })
    }

    /// Returns once the objects may say something new. Cancel-safe.
    pub(super) async fn changed(&mut self) {
        std::future::pending::<()>().await;
    }

    /// Whether every kind has had its first full list.
    pub(super) fn is_complete(&self) -> bool {
        false
    }

    /// What a list of every kind would say now.
    pub(super) fn objects(&self) -> &Objects {
        &self.objects
    }

    /// What is wrong now, if anything, in one sentence.
    #[expect(clippy::unused_self, reason = "the watches are still to come")]
    pub(super) fn trouble(&self) -> Option<String> {
        None
    }

    /// The missing lists are no reason not to be ready: the note says what serves instead.
    #[expect(
        clippy::unused_self,
        clippy::needless_pass_by_ref_mut,
        reason = "the watches are still to come"
    )]
    pub(super) fn excuse(&mut self, _note: &str) {}
}
