//! The one publisher: objects and facts → the model → a numbered snapshot, if it says anything new.

use std::{collections::BTreeSet, sync::Arc};

use tokio::{sync::watch, time::Instant};

use super::{Metrics, Options, objects::Objects};
use crate::{
    ids::Generation,
    model::{self, Facts, SetAside, Snapshot},
};

/// Most lines about what is set aside, for each publication: a broken generator of manifests must not drown the log.
const LOG_LINES_MAX: usize = 100;

/// Gives snapshots their numbers.
pub(super) struct Publisher {
    options: Options,
    snapshots: watch::Sender<Option<Arc<Snapshot>>>,
    metrics: Metrics,
    last: Option<Arc<Snapshot>>,
    told: BTreeSet<SetAside>,
}

impl Publisher {
    pub(super) fn new(options: Options, snapshots: watch::Sender<Option<Arc<Snapshot>>>, metrics: Metrics) -> Self {
        Self {
            options,
            snapshots,
            metrics,
            last: None,
            told: BTreeSet::new(),
        }
    }

    /// Publishes what objects and facts make, unless it was said before. Without facts there is nothing to say yet.
    pub(super) fn publish(&mut self, objects: &Objects, facts: Option<&Facts>) {
        self.metrics.objects(objects);
        let Some(facts) = facts else {
            self.tell(&objects.refused);
            return;
        };
        let started = Instant::now();
        let content = model::build(&objects.inputs(&self.options, facts));
        self.tell(&content.set_aside);
        if self.last.as_ref().is_some_and(|last| last.content == content) {
            return;
        }
        let before = self.last.as_ref().map_or(0, |last| last.generation.0);
        let generation = Generation(before + 1);
        let snapshot = Arc::new(Snapshot { generation, content });
        self.last = Some(Arc::clone(&snapshot));
        self.snapshots.send_replace(Some(snapshot));
        self.metrics.published(generation, started.elapsed());
        tracing::debug!(%generation, "published");
    }

    /// Logs and counts what is set aside now, each once.
    fn tell(&mut self, set_aside: &BTreeSet<SetAside>) {
        if *set_aside == self.told {
            return;
        }
        self.metrics.set_aside(set_aside);
        let new: Vec<_> = set_aside.difference(&self.told).collect();
        for SetAside {
            kind,
            name,
            reason,
            detail,
        } in new.iter().take(LOG_LINES_MAX)
        {
            tracing::warn!(kind, name, reason, detail, "set aside; everything else serves on");
        }
        if let Some(more) = new.len().checked_sub(LOG_LINES_MAX).filter(|more| *more > 0) {
            tracing::warn!(more, "more was set aside than is listed here; see the admin socket");
        }
        for mended in self.told.difference(set_aside).take(LOG_LINES_MAX) {
            tracing::info!(
                kind = mended.kind,
                name = mended.name,
                reason = mended.reason,
                "no longer set aside"
            );
        }
        self.told.clone_from(set_aside);
    }
}
