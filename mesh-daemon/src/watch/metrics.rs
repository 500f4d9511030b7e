//! What is published, how old it is, how many objects it was made of, and what was set aside.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use prometheus::{
    Gauge, Histogram, HistogramOpts, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
    core::{Collector, Desc},
    proto::MetricFamily,
};
use tokio::time::Instant;

use super::{
    cluster,
    objects::{Kind, Objects},
    status::StatusMetrics,
};
use crate::{
    ids::{Generation, ObjectRef},
    model::{Capture, SetAside},
    telemetry::register,
};

/// From a handful of objects to a large cluster, in seconds.
const PUBLISH_SECONDS: [f64; 8] = [0.0001, 0.0005, 0.002, 0.01, 0.05, 0.2, 1.0, 5.0];

/// From one change on an idle node to a kernel that refuses for a while, in seconds.
const APPLIED_SECONDS: [f64; 13] = [
    0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0,
];

/// Metrics of this room.
#[derive(Clone, Debug)]
pub struct Metrics {
    generation: IntGauge,
    age: Age,
    objects: IntGaugeVec,
    set_aside: IntGaugeVec,
    unknown: IntGauge,
    pods: IntGaugeVec,
    node_known: IntGauge,
    duration: Histogram,
    /// Of the watches.
    pub(super) cluster: cluster::Metrics,
    status: StatusMetrics,
    applied: IntGauge,
    event_to_applied: Histogram,
    from_state: IntGauge,
    state_writes: IntCounterVec,
}

impl Metrics {
    /// Registers them.
    #[must_use]
    pub fn new(registry: &Registry) -> Self {
        let help = "Objects, or parts of them, that are not used now, by kind and reason.";
        let set_aside = Opts::new("weft_objects_set_aside", help);
        let help = "Time from a change that was read to its snapshot published, in seconds.";
        let duration = HistogramOpts::new("weft_publish_duration_seconds", help).buckets(PUBLISH_SECONDS.to_vec());
        let help = "Number of the published snapshot; 0 before the first.";
        let generation = IntGauge::new("weft_snapshot_generation", help);
        let help = "Objects of kinds that are not read.";
        let unknown = IntGauge::new("weft_objects_unknown_kind", help);
        let help = "1 if a Node object has this node's name; 0 means that --node-name is wrong or Nodes are missing.";
        let node_known = IntGauge::new("weft_node_known", help);
        let pods = Opts::new("weft_pods", "Pods of this node: captured, or the reason why not.");
        let objects = Opts::new("weft_objects", "Objects in use, by kind.");
        let help = "Number of the snapshot that proxy and kernel hold; 0 before the first.";
        let applied = IntGauge::new("weft_snapshot_applied_generation", help);
        let help = "Time from a change that was seen to proxy and kernel holding it, in seconds.";
        let event_to_applied =
            HistogramOpts::new("weft_event_to_applied_seconds", help).buckets(APPLIED_SECONDS.to_vec());
        let help = "1 while the saved state is served because the API server has not listed everything yet.";
        let from_state = IntGauge::new("weft_snapshot_from_state", help);
        let help = "Writes of the state file, by result: ok, error.";
        let state_writes = IntCounterVec::new(Opts::new("weft_state_writes_total", help), &["result"]);
        Self {
            generation: register(registry, generation),
            age: register(registry, Age::new()),
            objects: register(registry, IntGaugeVec::new(objects, &["kind"])),
            set_aside: register(registry, IntGaugeVec::new(set_aside, &["kind", "reason"])),
            unknown: register(registry, unknown),
            node_known: register(registry, node_known),
            pods: register(registry, IntGaugeVec::new(pods, &["state"])),
            duration: register(registry, Histogram::with_opts(duration)),
            cluster: cluster::Metrics::new(registry),
            status: StatusMetrics::new(registry),
            applied: register(registry, applied),
            event_to_applied: register(registry, Histogram::with_opts(event_to_applied)),
            from_state: register(registry, from_state),
            state_writes: register(registry, state_writes),
        }
    }

    /// What is written back.
    pub(super) fn status(&self) -> &StatusMetrics {
        &self.status
    }

    pub(super) fn objects(&self, objects: &Objects) {
        for kind in Kind::ALL {
            let count = i64::try_from(objects.count(kind)).unwrap_or(i64::MAX);
            self.objects.with_label_values(&[kind.name()]).set(count);
        }
        self.unknown.set(i64::try_from(objects.unknown).unwrap_or(i64::MAX));
    }

    pub(super) fn set_aside(&self, set_aside: &BTreeSet<SetAside>) {
        let mut counts: BTreeMap<(&str, &str), i64> = BTreeMap::new();
        for item in set_aside {
            *counts.entry((&item.kind, item.reason)).or_default() += 1;
        }
        self.set_aside.reset();
        for ((kind, reason), count) in counts {
            self.set_aside.with_label_values(&[kind, reason]).set(count);
        }
    }

    pub(super) fn node_known(&self, known: bool) {
        self.node_known.set(i64::from(known));
    }

    pub(super) fn pods(&self, captures: &BTreeMap<ObjectRef, Capture>) {
        let mut counts: BTreeMap<&str, i64> = BTreeMap::new();
        for capture in captures.values() {
            let state = match capture {
                Capture::Captured(_) => "captured",
                Capture::Not(reason) => reason.name(),
            };
            *counts.entry(state).or_default() += 1;
        }
        self.pods.reset();
        for (state, count) in counts {
            self.pods.with_label_values(&[state]).set(count);
        }
    }

    pub(super) fn published(&self, generation: Generation, took: Duration) {
        self.generation.set(i64::try_from(generation.0).unwrap_or(i64::MAX));
        self.duration.observe(took.as_secs_f64());
        self.age.restart();
    }

    pub(super) fn applied(&self, generation: Generation) {
        self.applied.set(i64::try_from(generation.0).unwrap_or(i64::MAX));
    }

    pub(super) fn event_to_applied(&self, took: Duration) {
        self.event_to_applied.observe(took.as_secs_f64());
    }

    pub(super) fn serves_state(&self, is: bool) {
        self.from_state.set(i64::from(is));
    }

    pub(super) fn state_written(&self, well: bool) {
        let result = if well { "ok" } else { "error" };
        self.state_writes.with_label_values(&[result]).inc();
    }
}

/// `weft_snapshot_age_seconds`: computed at each scrape, so that it grows while nothing happens.
#[derive(Clone, Debug)]
struct Age {
    metric: Gauge,
    published: Arc<Mutex<Option<Instant>>>,
}

impl Age {
    fn new() -> prometheus::Result<Self> {
        let help = "Time since the published snapshot was published, in seconds; absent before the first.";
        Ok(Self {
            metric: Gauge::new("weft_snapshot_age_seconds", help)?,
            published: Arc::default(),
        })
    }

    fn restart(&self) {
        *self.published.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }
}

impl Collector for Age {
    fn desc(&self) -> Vec<&Desc> {
        self.metric.desc()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let published = *self.published.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(published) = published else {
            return Vec::new();
        };
        self.metric.set(published.elapsed().as_secs_f64());
        self.metric.collect()
    }
}
