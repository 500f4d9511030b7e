//! Writes to the API by what became of them, and how many are due.

use prometheus::{IntCounterVec, IntGauge, Opts, Registry};

use super::write::Object;
use crate::telemetry::register;

/// Metrics of this folder.
#[derive(Clone, Debug)]
pub(in crate::watch) struct Metrics {
    writes: IntCounterVec,
    pending: IntGauge,
    statuses_pending: IntGauge,
    leader: IntGauge,
}

impl Metrics {
    /// Registers them.
    pub(in crate::watch) fn new(registry: &Registry) -> Self {
        let help = "Pod conditions, Events and statuses sent to the API server, by what it answered.";
        let writes = Opts::new("weft_status_writes_total", help);
        let help = "Pod conditions and Events that are due and not written yet.";
        let pending = IntGauge::new("weft_status_pending", help);
        let help = "Statuses of routes and policies that this node is to write and has not written yet; 0 unless it is elected.";
        let statuses_pending = IntGauge::new("weft_status_objects_pending", help);
        let help = "1 if this node is elected to write the statuses of routes and policies, else 0.";
        let leader = IntGauge::new("weft_status_leader", help);
        Self {
            writes: register(registry, IntCounterVec::new(writes, &["object", "result"])),
            pending: register(registry, pending),
            statuses_pending: register(registry, statuses_pending),
            leader: register(registry, leader),
        }
    }

    pub(super) fn wrote(&self, object: Object, result: &str) {
        self.writes.with_label_values(&[object.name(), result]).inc();
    }

    pub(super) fn statuses_pending(&self, count: usize) {
        self.statuses_pending.set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    pub(super) fn leads(&self, leads: bool) {
        self.leader.set(i64::from(leads));
    }

    pub(super) fn pending(&self, count: usize) {
        self.pending.set(i64::try_from(count).unwrap_or(i64::MAX));
    }
}
