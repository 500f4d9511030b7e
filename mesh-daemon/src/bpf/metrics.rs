//! What the kernel half counts, and how full its maps are.

use aya::maps::{MapData, PerCpuArray};
use mesh_common::counter::Counter;
use prometheus::{
    IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
    core::{Collector, Desc},
    proto::MetricFamily,
};

use super::table::Changed;
use crate::telemetry::register;

/// Metrics of this room.
#[derive(Clone, Debug)]
pub struct Metrics {
    entries: IntGaugeVec,
    capacity: IntGaugeVec,
    writes: IntCounterVec,
    attached: IntGauge,
    attach_failed: IntGauge,
    mended: IntCounterVec,
}

impl Metrics {
    /// Registers them.
    pub fn new(registry: &Registry) -> Self {
        let gauges = |name, help| register(registry, IntGaugeVec::new(Opts::new(name, help), &["map"]));
        Self {
            entries: gauges("weft_bpf_map_entries", "Entries in a BPF map, as last written."),
            capacity: gauges("weft_bpf_map_capacity", "Most entries that a BPF map can hold."),
            writes: register(
                registry,
                IntCounterVec::new(
                    Opts::new(
                        "weft_bpf_map_writes_total",
                        "Writes to BPF maps by operation: upsert, delete, failed.",
                    ),
                    &["map", "operation"],
                ),
            ),
            attached: register(
                registry,
                IntGauge::new(
                    "weft_bpf_programs_attached",
                    "Interfaces on which a program of ours stands.",
                ),
            ),
            attach_failed: register(
                registry,
                IntGauge::new(
                    "weft_bpf_programs_missing",
                    "Interfaces on which a program could not be attached.",
                ),
            ),
            mended: register(
                registry,
                IntCounterVec::new(
                    Opts::new(
                        "weft_steering_mended_total",
                        "Times that something of the node's set-up was put back, by what: nftables, steering (rules and routes).",
                    ),
                    &["what"],
                ),
            ),
        }
    }

    pub(super) fn synced(&self, map: &str, changed: &Changed, entries: usize, capacity: u32) {
        self.entries
            .with_label_values(&[map])
            .set(i64::try_from(entries).unwrap_or(i64::MAX));
        self.capacity.with_label_values(&[map]).set(i64::from(capacity));
        self.writes.with_label_values(&[map, "upsert"]).inc_by(changed.upserts);
        self.writes.with_label_values(&[map, "delete"]).inc_by(changed.deletes);
    }

    pub(super) fn mended(&self, what: super::nftables::Mended) {
        self.mended.with_label_values(&[what.name()]).inc();
    }

    pub(super) fn write_failed(&self, map: &str) {
        self.writes.with_label_values(&[map, "failed"]).inc();
    }

    pub(super) fn attached(&self, standing: usize, failed: usize) {
        self.attached.set(i64::try_from(standing).unwrap_or(i64::MAX));
        self.attach_failed.set(i64::try_from(failed).unwrap_or(i64::MAX));
    }
}

/// `weft_capture_decisions_total`: the kernel half's counters, read at each scrape. They are pinned and so survive the daemon.
pub struct Decisions {
    counters: PerCpuArray<MapData, u64>,
    metric: IntCounterVec,
}

impl Decisions {
    /// Registers the kernel half's counters.
    ///
    /// # Errors
    /// If a metric of that name exists.
    pub fn register(registry: &Registry, counters: PerCpuArray<MapData, u64>) -> prometheus::Result<()> {
        let opts = Opts::new(
            "weft_capture_decisions_total",
            "Packets by what the kernel half decided. Counted since the programs were first loaded on this node.",
        );
        registry.register(Box::new(Self {
            counters,
            metric: IntCounterVec::new(opts, &["decision"])?,
        }))
    }
}

impl Collector for Decisions {
    fn desc(&self) -> Vec<&Desc> {
        self.metric.desc()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        for (index, counter) in (0u32..).zip(Counter::ALL) {
            let total = self.counters.get(&index, 0).map_or(0, |per_cpu| per_cpu.iter().sum());
            let metric = self.metric.with_label_values(&[counter.name()]);
            metric.reset();
            metric.inc_by(total);
        }
        self.metric.collect()
    }
}
