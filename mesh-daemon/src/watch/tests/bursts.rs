//! Bursts of changes, with a clock turned by hand: few publications, none late, and each followed to its acknowledgement.

use std::{sync::Arc, time::Duration};

use prometheus::{Registry, TextEncoder};
use tokio::{
    sync::watch,
    task::LocalSet,
    time::{Instant, advance},
};

use crate::{
    ids::NodeName,
    model::{Ack, Facts, Snapshot},
    ready::Readiness,
    task,
    watch::{self as room, Ends, Metrics, Options, Source},
};

/// The defaults of the settings.
const AFTER: Duration = Duration::from_millis(10);
const MAX: Duration = Duration::from_millis(100);

struct Bench {
    facts: watch::Sender<Option<Facts>>,
    snapshots: watch::Receiver<Option<Arc<Snapshot>>>,
    acks: watch::Sender<Option<Ack>>,
    registry: Registry,
    _directory: tempfile::TempDir,
}

/// Facts that differ for each number.
fn facts(number: u32) -> Facts {
    Facts {
        node_addresses: [std::net::IpAddr::from(number.to_be_bytes())].into(),
        ..Facts::default()
    }
}

impl Bench {
    /// A publisher that has published once.
    async fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let (facts, facts_seen) = watch::channel(Some(facts(0)));
        let (publish, mut snapshots) = watch::channel(None);
        let (acks, acks_seen) = watch::channel(None);
        let registry = Registry::new();
        let options = Options {
            node: NodeName("n1".into()),
            pod_cidrs: Vec::new(),
            debounce_after: AFTER,
            debounce_max: MAX,
        };
        let ends = Ends {
            facts: facts_seen,
            snapshots: publish,
            acks: acks_seen,
        };
        let source = Source::Manifests(directory.path().to_owned());
        let began = Instant::now();
        task::spawn(
            "watch",
            room::run(source, options, ends, Readiness::default(), Metrics::new(&registry)),
        );
        snapshots.changed().await.unwrap();
        assert_eq!(
            began.elapsed(),
            Duration::ZERO,
            "the first publication waits for nothing"
        );
        Self {
            facts,
            snapshots,
            acks,
            registry,
            _directory: directory,
        }
    }

    /// The kernel changes, and the publisher has a turn.
    async fn change(&self, number: u32) {
        self.facts.send_replace(Some(facts(number)));
        for _ in 0..3 {
            tokio::task::yield_now().await;
        }
    }

    /// The published generation, and the number of the facts in it.
    fn published(&self) -> (u64, u32) {
        let snapshot = self.snapshots.borrow();
        let snapshot = snapshot.as_ref().unwrap();
        let number = match snapshot.content.node_addresses.first() {
            Some(std::net::IpAddr::V4(address)) => u32::from(*address),
            other => panic!("{other:?}"),
        };
        (snapshot.generation.0, number)
    }
}

/// Runs a test on a paused clock. A real clock would publish often while ten thousand changes are made.
fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .unwrap();
    LocalSet::new().block_on(&runtime, test);
}

#[test]
fn ten_thousand_changes_at_once_are_one_publication() {
    run(async {
        let mut bench = Bench::start().await;
        for number in 1..=10_000 {
            bench.change(number).await;
        }
        assert_eq!(bench.published(), (1, 0), "no time has passed");
        bench.snapshots.mark_unchanged();
        bench.snapshots.changed().await.unwrap();
        assert_eq!(bench.published(), (2, 10_000));
    });
}

#[test]
fn a_change_under_constant_fire_is_out_within_the_longest_wait() {
    run(async {
        let bench = Bench::start().await;
        let (mut number, mut publications) = (0, 1);
        // a second of a change each millisecond
        for _ in 0..1_000 {
            number += 1;
            bench.change(number).await;
            advance(Duration::from_millis(1)).await;
            tokio::task::yield_now().await;
            let (generation, seen) = bench.published();
            publications = generation;
            assert!(number - seen <= 102, "{seen} is published while {number} is there");
        }
        assert!((9..=11).contains(&publications), "{publications} publications");
    });
}

#[test]
fn an_acknowledgement_ends_the_measurement() {
    run(async {
        let mut bench = Bench::start().await;
        bench.change(1).await;
        bench.snapshots.changed().await.unwrap();
        let snapshot = bench.snapshots.borrow().clone().unwrap();
        assert_eq!(snapshot.generation.0, 2);
        advance(Duration::from_millis(5)).await;
        bench.acks.send_replace(Some(Ack {
            snapshot,
            unattached: [].into(),
            held_back: false,
        }));
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
        let text = TextEncoder::new().encode_to_string(&bench.registry.gather()).unwrap();
        for line in [
            "weft_snapshot_generation 2",
            "weft_snapshot_applied_generation 2",
            // the change: quiet, then the kernel. The first snapshot took that and the quiet before.
            "weft_event_to_applied_seconds_bucket{le=\"0.01\"} 0",
            "weft_event_to_applied_seconds_bucket{le=\"0.05\"} 2",
            "weft_event_to_applied_seconds_count 2",
        ] {
            assert!(text.contains(line), "{line}\n{text}");
        }
    });
}
