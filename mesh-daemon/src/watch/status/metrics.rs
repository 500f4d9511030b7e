//! Writes to the API by what became of them, and how many are due.

use prometheus::{IntCounterVec, IntGauge, Opts, Registry};

use super::write::{Object, Outcome};
use crate::telemetry::register;

/// Metrics of this folder.
#[derive(Clone, Debug)]
pub(in crate::watch) struct Metrics {
    writes: IntCounterVec,
    pending: IntGauge,
}

impl Metrics {
    /// Registers them.
    pub(in crate::watch) fn new(registry: &Registry) -> Self {
        let help = "Pod conditions and Events sent to the API server, by what it answered.";
        let writes = Opts::new("weft_status_writes_total", help);
        let help = "Pod conditions and Events that are due and not written yet.";
        let pending = IntGauge::new("weft_status_pending", help);
        Self {
            writes: register(registry, IntCounterVec::new(writes, &["object", "result"])),
            pending: register(registry, pending),
        }
    }

    pub(super) fn wrote(&self, object: Object, outcome: &Outcome) {
        self.writes.with_label_values(&[object.name(), outcome.name()]).inc();
    }

    pub(super) fn pending(&self, count: usize) {
        self.pending.set(i64::try_from(count).unwrap_or(i64::MAX));
    }
}
