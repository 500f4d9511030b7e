//! What the kernel half counts, and how full its maps are.

use std::collections::HashMap;

use aya::maps::{MapData, PerCpuArray};
use mesh_common::{
    counter::Counter,
    round_trip::{BUCKETS, HEARD_BUCKETS, HEARD_MICROS, HEARD_NO_ROOM, HEARD_RETRANSMITS, bucket_bound_micros},
};
use prometheus::{
    IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
    core::{Collector, Desc},
    proto::{Bucket, Histogram, Metric, MetricFamily, MetricType},
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
    hears: IntGauge,
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
            hears: register(
                registry,
                IntGauge::new(
                    "weft_kernel_rtt_available",
                    "1 if the kernel tells round trips and retransmits of connections to endpoints, 0 if not.",
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

    pub(super) fn hears(&self, hears: bool) {
        self.hears.set(i64::from(hears));
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

/// What the kernel's ear counted since this daemon started, read at each scrape. One histogram over all endpoints and no series of each:
/// their number has no bound that a scrape could bear, and single ones are what `endpoints` shows.
pub struct Heard {
    counts: PerCpuArray<MapData, u64>,
    rtt: Desc,
    retransmits: IntCounter,
    no_room: IntCounter,
}

const RTT_NAME: &str = "weft_upstream_rtt_seconds";
const RTT_HELP: &str =
    "Smoothed round-trip time of connections to endpoints as the kernel has it, told about once in each round trip.";
/// Microseconds in a second.
const MICROS_PER_SECOND: f64 = 1e6;

impl Heard {
    /// Registers what the ear counts.
    ///
    /// # Errors
    /// If a metric of that name exists.
    pub fn register(registry: &Registry, counts: PerCpuArray<MapData, u64>) -> prometheus::Result<()> {
        registry.register(Box::new(Self {
            counts,
            rtt: Desc::new(RTT_NAME.to_owned(), RTT_HELP.to_owned(), Vec::new(), HashMap::new())?,
            retransmits: IntCounter::new(
                "weft_upstream_retransmits_total",
                "Segments that were sent to endpoints again, those of handshakes that succeeded among them.",
            )?,
            no_room: IntCounter::new(
                "weft_upstream_rtt_no_room_total",
                "Connections whose endpoint's round trip was not kept because the map is full.",
            )?,
        }))
    }

    fn count(&self, index: u32) -> u64 {
        self.counts.get(&index, 0).map_or(0, |per_cpu| per_cpu.iter().sum())
    }
}

impl Collector for Heard {
    fn desc(&self) -> Vec<&Desc> {
        let counters = [&self.retransmits, &self.no_room];
        [&self.rtt]
            .into_iter()
            .chain(counters.into_iter().flat_map(Collector::desc))
            .collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let buckets = (0..BUCKETS).map(|bucket| self.count(HEARD_BUCKETS + bucket));
        let mut families = vec![histogram(buckets, self.count(HEARD_MICROS))];
        for (counter, index) in [(&self.retransmits, HEARD_RETRANSMITS), (&self.no_room, HEARD_NO_ROOM)] {
            counter.reset();
            counter.inc_by(self.count(index));
            families.extend(counter.collect());
        }
        families
    }
}

/// The kernel's buckets, each by itself, as the text format has them: each with all below it, and the sum in seconds.
fn histogram(buckets: impl Iterator<Item = u64>, sum_micros: u64) -> MetricFamily {
    let mut histogram = Histogram::default();
    let mut below = 0;
    let mut cumulative = Vec::new();
    for (bucket, count) in (0u32..).zip(buckets) {
        below += count;
        // the last bucket, which has no bound, is the count
        if let Some(bound) = bucket_bound_micros(bucket) {
            let mut bucket = Bucket::default();
            bucket.set_upper_bound(f64::from(bound) / MICROS_PER_SECOND);
            bucket.set_cumulative_count(below);
            cumulative.push(bucket);
        }
    }
    histogram.set_bucket(cumulative);
    histogram.set_sample_count(below);
    histogram.set_sample_sum(seconds(sum_micros));
    let mut metric = Metric::default();
    metric.set_histogram(histogram);
    let mut family = MetricFamily::default();
    family.set_name(RTT_NAME.to_owned());
    family.set_help(RTT_HELP.to_owned());
    family.set_field_type(MetricType::HISTOGRAM);
    family.set_metric(vec![metric]);
    family
}

fn seconds(micros: u64) -> f64 {
    std::time::Duration::from_micros(micros).as_secs_f64()
}

#[cfg(test)]
mod tests {
    use prometheus::{Encoder as _, TextEncoder};

    use super::*;

    #[test]
    fn the_kernels_buckets_are_a_histogram_in_seconds() {
        let counts = [(0, 2), (3, 5), (BUCKETS - 1, 1)];
        let buckets = (0..BUCKETS).map(|bucket| {
            counts
                .iter()
                .find(|(own, _)| *own == bucket)
                .map_or(0, |(_, count)| *count)
        });
        let mut text = Vec::new();
        TextEncoder::new()
            .encode(&[histogram(buckets, 2_500_000)], &mut text)
            .unwrap();
        let text = String::from_utf8(text).unwrap();
        for line in [
            "# TYPE weft_upstream_rtt_seconds histogram",
            "weft_upstream_rtt_seconds_bucket{le=\"0.000032\"} 2",
            "weft_upstream_rtt_seconds_bucket{le=\"0.000128\"} 2",
            "weft_upstream_rtt_seconds_bucket{le=\"0.000256\"} 7",
            "weft_upstream_rtt_seconds_bucket{le=\"1.048576\"} 7",
            "weft_upstream_rtt_seconds_bucket{le=\"+Inf\"} 8",
            "weft_upstream_rtt_seconds_sum 2.5",
            "weft_upstream_rtt_seconds_count 8",
        ] {
            assert!(text.lines().any(|own| own == line), "{line} is not in\n{text}");
        }
    }
}
