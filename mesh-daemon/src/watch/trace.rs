//! The way of a change from the moment it was seen to the kernel and the proxy, told by the number of the snapshot that carries it.

use std::collections::VecDeque;

use tokio::time::Instant;

use super::Metrics;
use crate::{ids::Generation, model::Ack};

/// Most publications that are followed at once. An acknowledgement ends all up to its own, so only a kernel that refuses every write for
/// minutes makes a queue; later publications are then not measured, and the first ones tell the trouble.
const FOLLOWED_MAX: usize = 1024;

/// Follows changes.
#[derive(Debug)]
pub(super) struct Trace {
    metrics: Metrics,
    /// When the first unpublished change was seen, and how many there are.
    unpublished: Option<(Instant, u64)>,
    /// What is published and not acknowledged, oldest first, by when its first change was seen.
    published: VecDeque<(Generation, Instant)>,
}

impl Trace {
    pub(super) fn new(metrics: Metrics) -> Self {
        Self {
            metrics,
            unpublished: None,
            published: VecDeque::new(),
        }
    }

    /// Something may be new. `next` is the number that it will have if it is.
    pub(super) fn seen(&mut self, now: Instant, next: Generation) {
        match &mut self.unpublished {
            Some((_, changes)) => *changes += 1,
            None => {
                self.unpublished = Some((now, 1));
                tracing::debug!(generation = %next, "a change was seen");
            }
        }
    }

    /// Nothing was new.
    pub(super) fn nothing_new(&mut self) {
        self.unpublished = None;
    }

    /// It was new, and is published.
    pub(super) fn published(&mut self, generation: Generation, now: Instant) {
        let (seen, changes) = self.unpublished.take().unwrap_or((now, 1));
        let waited = now.duration_since(seen);
        tracing::debug!(%generation, changes, ?waited, "published");
        if self.published.len() < FOLLOWED_MAX {
            self.published.push_back((generation, seen));
        }
    }

    /// Kernel and proxy hold a snapshot, and with it every one before.
    pub(super) fn acknowledged(&mut self, ack: &Ack, now: Instant) {
        let generation = ack.snapshot.generation;
        while let Some((_, seen)) = self.published.pop_front_if(|(published, _)| *published <= generation) {
            let took = now.duration_since(seen);
            self.metrics.event_to_applied(took);
            tracing::debug!(%generation, ?took, held_back = ack.held_back, "a change is applied to the proxy and the kernel");
        }
        self.metrics.applied(generation);
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, sync::Arc, time::Duration};

    use prometheus::{Registry, TextEncoder};

    use super::*;
    use crate::model::{Content, Snapshot};

    fn ack(generation: u64) -> Ack {
        Ack {
            snapshot: Arc::new(Snapshot {
                generation: Generation(generation),
                content: Content::default(),
            }),
            unattached: BTreeMap::new(),
            held_back: false,
        }
    }

    #[test]
    fn an_acknowledgement_measures_every_publication_up_to_its_own() {
        let registry = Registry::new();
        let mut trace = Trace::new(Metrics::new(&registry));
        let began = Instant::now();
        let at = |ms| began + Duration::from_millis(ms);
        let has = |line: &str| {
            let text = TextEncoder::new().encode_to_string(&registry.gather()).unwrap();
            assert!(text.contains(line), "{line}\n{text}");
        };
        trace.seen(at(0), Generation(1));
        trace.seen(at(3), Generation(1));
        trace.published(Generation(1), at(4));
        // what says nothing new is not measured with what comes after it
        trace.seen(at(5), Generation(2));
        trace.nothing_new();
        trace.seen(at(1_000), Generation(2));
        trace.published(Generation(2), at(1_001));
        has("weft_event_to_applied_seconds_count 0");
        trace.acknowledged(&ack(2), at(1_004));
        has("weft_event_to_applied_seconds_count 2");
        has("weft_event_to_applied_seconds_sum 1.008");
        has("weft_snapshot_applied_generation 2");
        // the same snapshot again, as after a resync
        trace.acknowledged(&ack(2), at(30_000));
        has("weft_event_to_applied_seconds_count 2");
        // an old one does not end a newer one
        trace.seen(at(40_000), Generation(3));
        trace.published(Generation(3), at(40_000));
        trace.acknowledged(&ack(2), at(40_001));
        has("weft_event_to_applied_seconds_count 2");
    }

    #[test]
    fn a_kernel_that_refuses_for_long_makes_no_long_queue() {
        let mut trace = Trace::new(Metrics::new(&Registry::new()));
        let now = Instant::now();
        for generation in 1..=10_000 {
            trace.seen(now, Generation(generation));
            trace.published(Generation(generation), now);
        }
        assert_eq!(trace.published.len(), FOLLOWED_MAX);
        trace.acknowledged(&ack(10_000), now);
        assert!(trace.published.is_empty());
    }
}
