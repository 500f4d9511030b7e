//! The one publisher: objects and facts → the model → a numbered snapshot, if it says anything new.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use tokio::{sync::watch, time::Instant};

use super::{Metrics, Options, objects::Objects};
use crate::{
    ids::{Generation, ObjectRef},
    model::{self, Capture, Facts, NotCaptured, SetAside, Snapshot, View},
};

/// Most lines about what is set aside, or about pods, for each publication: a broken generator of manifests must not drown the log.
const LOG_LINES_MAX: usize = 100;

/// Most node names in a message: enough to see a pattern.
const NODES_NAMED_MAX: usize = 5;

/// What became of an attempt to publish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Published {
    /// Nothing is known of the kernel yet.
    NotYet,
    /// It was said before.
    NothingNew,
    /// It has this number.
    As(Generation),
}

/// Gives snapshots their numbers.
pub(super) struct Publisher {
    options: Options,
    snapshots: watch::Sender<Option<Arc<Snapshot>>>,
    metrics: Metrics,
    last: Option<Arc<Snapshot>>,
    told: BTreeSet<SetAside>,
    node_known: Option<bool>,
}

impl Publisher {
    pub(super) fn new(options: Options, snapshots: watch::Sender<Option<Arc<Snapshot>>>, metrics: Metrics) -> Self {
        Self {
            options,
            snapshots,
            metrics,
            last: None,
            told: BTreeSet::new(),
            node_known: None,
        }
    }

    /// The number of the next snapshot.
    pub(super) fn next(&self) -> Generation {
        Generation(self.last.as_ref().map_or(0, |last| last.generation.0) + 1)
    }

    /// Publishes what objects and facts make, unless it was said before. Without facts there is nothing to say yet.
    pub(super) fn publish(&mut self, objects: &Objects, facts: Option<&Facts>) -> Published {
        self.metrics.objects(objects);
        let Some(facts) = facts else {
            self.tell(&objects.refused);
            return Published::NotYet;
        };
        let started = Instant::now();
        let known = self.tell_node(&objects.view(&self.options, facts));
        self.node_known = Some(known);
        let view = objects.view(&self.options, facts);
        let content = match &self.last {
            Some(last) => model::build_after(&last.content, view),
            None => model::build(view),
        };
        self.tell(&content.set_aside);
        if self.last.as_ref().is_some_and(|last| last.content == content) {
            return Published::NothingNew;
        }
        let generation = self.next();
        self.metrics.pods(&content.captures);
        tell_captures(self.last.as_ref().map(|last| &last.content.captures), &content.captures);
        let snapshot = Arc::new(Snapshot { generation, content });
        self.last = Some(Arc::clone(&snapshot));
        self.snapshots.send_replace(Some(snapshot));
        self.metrics.published(generation, started.elapsed());
        Published::As(generation)
    }

    /// A node name that no Node has captures nothing, and looks like a quiet node: says it, and whether it is known.
    fn tell_node(&self, inputs: &View<'_>) -> bool {
        let known = inputs.nodes.contains_key(&inputs.node.0);
        self.metrics.node_known(known);
        if !known && self.node_known != Some(false) {
            let nodes: Vec<_> = inputs.nodes.keys().take(NODES_NAMED_MAX).collect();
            tracing::warn!(
                node = %inputs.node, there_are = ?nodes,
                "no Node object has this node's name, so no pod may be captured here: set --node-name"
            );
        }
        known
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

/// Logs which pods of this node are captured now and were not before, or the other way round, and why.
fn tell_captures(before: Option<&BTreeMap<ObjectRef, Capture>>, now: &BTreeMap<ObjectRef, Capture>) {
    // a pod that nobody asked to capture is no news, unless it was captured before
    let is_news = |(pod, capture): &(&ObjectRef, &Capture)| match before.and_then(|before| before.get(*pod)) {
        Some(was) => was != *capture,
        None => **capture != Capture::Not(NotCaptured::NotLabelled),
    };
    for (pod, capture) in now.iter().filter(is_news).take(LOG_LINES_MAX) {
        match capture {
            Capture::Captured(interface) => tracing::info!(%pod, interface, "captured"),
            Capture::Not(reason) => tracing::info!(%pod, reason = reason.name(), "not captured"),
        }
    }
}
