//! The running source: files change, snapshots follow. Every wait is for a snapshot.

use std::{fs, os::unix::fs::symlink, path::Path, sync::Arc, time::Duration};

use prometheus::{Registry, TextEncoder};
use tokio::{sync::watch, task::LocalSet, time::timeout};

use super::pod;
use crate::{
    ids::NodeName,
    model::{Facts, Snapshot},
    ready::Readiness,
    task,
    watch::{self as room, Ends, Error, Metrics, Options, Source, objects::Kind},
};

/// Far more than any change takes; only a broken build waits so long.
const PATIENCE: Duration = Duration::from_secs(20);

struct Running {
    facts: watch::Sender<Option<Facts>>,
    snapshots: watch::Receiver<Option<Arc<Snapshot>>>,
    ended: tokio::task::JoinHandle<Option<Result<(), Error>>>,
    readiness: Readiness,
    registry: Registry,
}

impl Running {
    fn start(dir: &Path, facts: Option<Facts>) -> Self {
        let (facts, facts_seen) = watch::channel(facts);
        let (publish, snapshots) = watch::channel(None);
        let (readiness, registry) = (Readiness::default(), Registry::new());
        let options = Options {
            node: NodeName("n1".into()),
            pod_cidrs: Vec::new(),
            debounce_after: Duration::from_millis(1),
            debounce_max: Duration::from_millis(10),
        };
        let (_, acks) = watch::channel(None);
        let ends = Ends {
            facts: facts_seen,
            snapshots: publish,
            acks,
        };
        let ended = task::spawn(
            "watch",
            room::run(
                Source::Manifests(dir.to_owned()),
                options,
                ends,
                readiness.clone(),
                Metrics::new(&registry),
            ),
        );
        Self {
            facts,
            snapshots,
            ended,
            readiness,
            registry,
        }
    }

    /// Waits until pods own exactly these addresses, and exactly this is set aside.
    async fn until(&mut self, addresses: &[&str], reasons: &[&str]) -> u64 {
        let mut last = String::new();
        let seen = |snapshot: &Option<Arc<Snapshot>>| {
            let Some(snapshot) = snapshot else { return false };
            let owned = snapshot.content.workloads.keys().map(ToString::to_string);
            let owned: Vec<_> = owned.collect();
            let mut said: Vec<_> = snapshot.content.set_aside.iter().map(|item| item.reason).collect();
            said.sort_unstable();
            last = format!("{owned:?} {said:?}");
            owned == addresses && said == reasons
        };
        match timeout(PATIENCE, self.snapshots.wait_for(seen)).await {
            Ok(snapshot) => snapshot.unwrap().as_ref().unwrap().generation.0,
            Err(_) => panic!("waited for {addresses:?} {reasons:?}, last was {last}"),
        }
    }

    fn scrape(&self) -> String {
        TextEncoder::new().encode_to_string(&self.registry.gather()).unwrap()
    }
}

fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    LocalSet::new().block_on(&runtime, test);
}

fn write(dir: &Path, name: &str, text: &str) {
    fs::write(dir.join(name), text).unwrap();
}

#[test]
fn nothing_is_published_before_objects_and_facts_are_there() {
    run(async {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), "a.yaml", &pod("a", "10.0.0.1"));
        let mut running = Running::start(dir.path(), None);
        assert_eq!(running.readiness.pending().len(), Kind::ALL.len());
        while !running.readiness.pending().is_empty() {
            tokio::task::yield_now().await;
        }
        assert!(running.snapshots.borrow().is_none());
        assert!(!running.scrape().contains("weft_snapshot_age_seconds"));
        running.facts.send_replace(Some(Facts::default()));
        assert_eq!(running.until(&["10.0.0.1"], &[]).await, 1);
        // equal facts say nothing new: the next number belongs to the next change
        running.facts.send_replace(Some(Facts::default()));
        tokio::task::yield_now().await;
        write(dir.path(), "b.yaml", &pod("b", "10.0.0.2"));
        assert_eq!(running.until(&["10.0.0.1", "10.0.0.2"], &[]).await, 2);
        let scrape = running.scrape();
        for line in [
            "weft_snapshot_generation 2",
            "weft_objects{kind=\"Pod\"} 2",
            "weft_objects_unknown_kind 0",
            "weft_publish_duration_seconds_count 2",
            "weft_snapshot_age_seconds 0.",
        ] {
            assert!(scrape.contains(line), "{line}\n{scrape}");
        }
        drop(running.facts);
        assert!(matches!(timeout(PATIENCE, running.ended).await, Ok(Ok(Some(Ok(()))))));
    });
}

#[test]
fn a_missing_directory_ends_it_at_once() {
    run(async {
        let dir = tempfile::tempdir().unwrap();
        let running = Running::start(&dir.path().join("missing"), Some(Facts::default()));
        let ended = running.ended.await.unwrap().unwrap();
        assert!(matches!(ended, Err(Error::Directory { .. })), "{ended:?}");
    });
}

#[test]
fn files_come_change_and_go() {
    run(async {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), "a.yaml", &pod("a", "10.0.0.1"));
        let mut running = Running::start(dir.path(), Some(Facts::default()));
        running.until(&["10.0.0.1"], &[]).await;
        // half-written
        write(dir.path(), "a.yaml", "apiVersion: v1\nkind: [Po");
        running.until(&["10.0.0.1"], &["unparsable"]).await;
        let line = "weft_objects_set_aside{kind=\"File\",reason=\"unparsable\"} 1";
        assert!(running.scrape().contains(line));
        write(dir.path(), "a.yaml", &pod("a", "10.0.0.3"));
        running.until(&["10.0.0.3"], &[]).await;
        assert!(!running.scrape().contains("reason="));
        // written aside, then renamed over: as editors and kubectl do
        write(dir.path(), ".a.yaml.tmp", &pod("a", "10.0.0.4"));
        fs::rename(dir.path().join(".a.yaml.tmp"), dir.path().join("a.yaml")).unwrap();
        running.until(&["10.0.0.4"], &[]).await;
        // a duplicate, then the holder goes
        write(dir.path(), "b.yaml", &pod("a", "10.0.0.5"));
        running.until(&["10.0.0.4"], &["duplicate"]).await;
        fs::remove_file(dir.path().join("a.yaml")).unwrap();
        running.until(&["10.0.0.5"], &[]).await;
        fs::rename(dir.path().join("b.yaml"), dir.path().join("b.off")).unwrap();
        running.until(&[], &[]).await;
        // a List
        let list = "{apiVersion: v1, kind: List, items: [{apiVersion: v1, kind: Pod, metadata: {name: z}, status: {podIP: 10.0.0.6}}]}";
        write(dir.path(), "c.yaml", list);
        running.until(&["10.0.0.6"], &[]).await;
    });
}

#[test]
fn a_config_map_swaps_its_data_link() {
    run(async {
        let dir = tempfile::tempdir().unwrap();
        let version = |name: &str, ip: &str| {
            fs::create_dir(dir.path().join(name)).unwrap();
            write(&dir.path().join(name), "a.yaml", &pod("a", ip));
        };
        version("..v1", "10.0.0.1");
        symlink("..v1", dir.path().join("..data")).unwrap();
        symlink("..data/a.yaml", dir.path().join("a.yaml")).unwrap();
        let mut running = Running::start(dir.path(), Some(Facts::default()));
        running.until(&["10.0.0.1"], &[]).await;
        version("..v2", "10.0.0.2");
        symlink("..v2", dir.path().join("..data_tmp")).unwrap();
        fs::rename(dir.path().join("..data_tmp"), dir.path().join("..data")).unwrap();
        fs::remove_dir_all(dir.path().join("..v1")).unwrap();
        running.until(&["10.0.0.2"], &[]).await;
    });
}

#[test]
fn a_directory_that_vanishes_keeps_everything_until_it_is_back() {
    run(async {
        let parent = tempfile::tempdir().unwrap();
        let dir = parent.path().join("manifests");
        fs::create_dir(&dir).unwrap();
        write(&dir, "a.yaml", &pod("a", "10.0.0.1"));
        let mut running = Running::start(&dir, Some(Facts::default()));
        running.until(&["10.0.0.1"], &[]).await;
        fs::rename(&dir, parent.path().join("away")).unwrap();
        running.until(&["10.0.0.1"], &["directory_gone"]).await;
        // another directory in its place
        fs::create_dir(&dir).unwrap();
        write(&dir, "b.yaml", &pod("b", "10.0.0.2"));
        running.until(&["10.0.0.2"], &[]).await;
        // and it is watched: this needs no periodic reading
        write(&dir, "c.yaml", &pod("c", "10.0.0.3"));
        running.until(&["10.0.0.2", "10.0.0.3"], &[]).await;
    });
}
