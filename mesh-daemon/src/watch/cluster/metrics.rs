//! How the watches stand: up or not, lists, events and failures, by kind.

use prometheus::{IntCounterVec, IntGaugeVec, Opts, Registry};

use super::super::objects::Kind;
use crate::telemetry::register;

/// Metrics of the watches.
#[derive(Clone, Debug)]
pub(in crate::watch) struct Metrics {
    up: IntGaugeVec,
    absent: IntGaugeVec,
    relists: IntCounterVec,
    failures: IntCounterVec,
    events: IntCounterVec,
}

impl Metrics {
    /// Registers them. A kind has series once it is watched.
    pub(in crate::watch) fn new(registry: &Registry) -> Self {
        let up = Opts::new(
            "weft_watch_up",
            "1 while the watch of a kind stands and its list is complete, or the API server has no such kind.",
        );
        let help = "1 while the API server has no such kind: its CustomResourceDefinition is missing.";
        let absent = Opts::new("weft_watch_absent", help);
        let help = "Full lists that were begun after the first, by kind.";
        let relists = Opts::new("weft_watch_relists_total", help);
        let help = "Failures of watches and lists, by kind and reason; each is tried again.";
        let failures = Opts::new("weft_watch_failures_total", help);
        let help = "Objects that watches and lists have sent, by kind.";
        let events = Opts::new("weft_watch_events_total", help);
        Self {
            up: register(registry, IntGaugeVec::new(up, &["kind"])),
            absent: register(registry, IntGaugeVec::new(absent, &["kind"])),
            relists: register(registry, IntCounterVec::new(relists, &["kind"])),
            failures: register(registry, IntCounterVec::new(failures, &["kind", "reason"])),
            events: register(registry, IntCounterVec::new(events, &["kind"])),
        }
    }

    pub(super) fn watching(&self, kind: Kind) {
        self.up(kind, false);
        if kind.is_optional() {
            self.absent(kind, false);
        }
        self.relists.with_label_values(&[kind.name()]);
        self.events.with_label_values(&[kind.name()]);
    }

    pub(super) fn up(&self, kind: Kind, up: bool) {
        self.up.with_label_values(&[kind.name()]).set(i64::from(up));
    }

    pub(super) fn absent(&self, kind: Kind, absent: bool) {
        self.absent.with_label_values(&[kind.name()]).set(i64::from(absent));
    }

    pub(super) fn relist(&self, kind: Kind) {
        self.relists.with_label_values(&[kind.name()]).inc();
    }

    pub(super) fn failure(&self, kind: Kind, reason: &str) {
        self.failures.with_label_values(&[kind.name(), reason]).inc();
    }

    pub(super) fn event(&self, kind: Kind) {
        self.events.with_label_values(&[kind.name()]).inc();
    }
}
