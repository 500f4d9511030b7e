//! The start with and without an API server, and what is written when, with a clock turned by hand and the disk as it is.

use std::{cell::RefCell, path::Path, rc::Rc};

use prometheus::{Registry, TextEncoder};
use tokio::sync::Notify;

use super::*;
use crate::{
    ids::{NodeName, ObjectRef},
    model::{Namespace, PolicySpec, TrafficPolicy, ValidPolicy},
    ready::State,
};

/// What the stand-in for the watches says now.
#[derive(Default)]
struct World {
    complete: bool,
    objects: Objects,
    trouble: Option<String>,
    excuses: Vec<String>,
    closed: bool,
}

/// Watches that a test turns.
#[derive(Clone, Default)]
struct Fake {
    world: Rc<RefCell<World>>,
    changed: Rc<Notify>,
    objects: Objects,
}

impl Lists for Fake {
    async fn changed(&mut self) {
        self.changed.notified().await;
        self.objects = self.world.borrow().objects.clone();
    }

    fn is_complete(&self) -> bool {
        self.world.borrow().complete
    }

    fn objects(&self) -> &Objects {
        &self.objects
    }

    fn trouble(&self) -> Option<String> {
        self.world.borrow().trouble.clone()
    }

    fn excuse(&mut self, note: &str) {
        self.world.borrow_mut().excuses.push(note.to_owned());
    }

    async fn close(&mut self) {
        self.world.borrow_mut().closed = true;
    }

    fn inherit(&mut self, saved: &Objects) -> bool {
        self.objects.inherit(saved)
    }
}

/// Objects that can be told apart.
fn named(name: &str) -> Objects {
    Objects {
        namespaces: [(name.to_owned(), Namespace::default())].into(),
        ..Objects::default()
    }
}

struct Bench {
    fake: Fake,
    kept: Kept<Fake>,
    readiness: Readiness,
    registry: Registry,
}

fn place(directory: &Path) -> Place {
    Place {
        directory: directory.to_owned(),
        node: NodeName("n1".into()),
        age_max: Duration::from_secs(24 * 3600),
    }
}

impl Bench {
    fn start(directory: &Path) -> Self {
        let (fake, readiness, registry) = (Fake::default(), Readiness::default(), Registry::new());
        let metrics = Metrics::new(&registry);
        Self {
            kept: Kept::new(fake.clone(), place(directory), readiness.clone(), metrics),
            fake,
            readiness,
            registry,
        }
    }

    /// The API server lists everything.
    fn list(&self, objects: Objects) {
        let mut world = self.fake.world.borrow_mut();
        world.complete = true;
        world.objects = objects;
        world.trouble = None;
        self.fake.changed.notify_one();
    }

    /// Lets time pass without a change of the objects.
    async fn pass(&mut self, time: Duration) {
        let passed = tokio::time::timeout(time, self.kept.changed()).await;
        assert!(passed.is_err(), "nothing was to change");
    }

    /// Lets time pass until the disk has done what it was asked for, as the metrics tell.
    async fn until(&mut self, line: &str) {
        for _ in 0..10_000 {
            if self.scrape().contains(line) {
                return;
            }
            self.pass(Duration::from_millis(1)).await;
            // the disk has a thread of its own, which no paused clock holds up: on a busy machine it needs its turn before the paused time is over
            std::thread::sleep(Duration::from_micros(100));
        }
        panic!("no {line} in\n{}", self.scrape());
    }

    fn scrape(&self) -> String {
        TextEncoder::new().encode_to_string(&self.registry.gather()).unwrap()
    }
}

/// What a daemon finds whose predecessor saw these objects.
async fn saved(directory: &Path, objects: &Objects) {
    let keeper = Keeper::start(place(directory)).unwrap();
    keeper.save(&NodeName("n1".into()), objects).await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn lists_that_come_in_time_are_all_that_is_served() {
    let dir = tempfile::tempdir().unwrap();
    saved(dir.path(), &named("old")).await;
    let mut bench = Bench::start(dir.path());
    bench.pass(GRACE - Duration::from_millis(1)).await;
    assert!(!bench.kept.is_complete());
    bench.list(named("new"));
    bench.kept.changed().await;
    assert!(bench.kept.is_complete());
    assert_eq!(*bench.kept.objects(), named("new"));
    bench.pass(Duration::from_millis(1)).await;
    assert_eq!(*bench.kept.objects(), named("new"), "nor later");
    assert!(bench.fake.world.borrow().excuses.is_empty());
}

#[tokio::test(start_paused = true)]
async fn the_state_serves_until_every_list_is_complete() {
    let dir = tempfile::tempdir().unwrap();
    saved(dir.path(), &named("old")).await;
    let mut bench = Bench::start(dir.path());
    bench.fake.world.borrow_mut().trouble = Some("nobody answers".into());
    let began = Instant::now();
    bench.kept.changed().await;
    assert!(began.elapsed() >= GRACE, "{:?}", began.elapsed());
    assert!(bench.kept.is_complete());
    assert_eq!(*bench.kept.objects(), named("old"));
    assert!(bench.scrape().contains("weft_snapshot_from_state 1"));
    let excuse = bench.fake.world.borrow().excuses.join("|");
    assert!(
        excuse.starts_with("serves the state of 2") && excuse.ends_with("at the start: nobody answers"),
        "{excuse}"
    );
    // half of the lists: never mixed with the state
    bench.fake.world.borrow_mut().objects = named("half");
    bench.fake.world.borrow_mut().trouble = Some("list of Pods: refused".into());
    bench.fake.changed.notify_one();
    bench.kept.changed().await;
    assert_eq!(*bench.kept.objects(), named("old"));
    assert!(bench.fake.world.borrow().excuses[1].ends_with("list of Pods: refused"));
    // all of them
    bench.list(named("new"));
    bench.kept.changed().await;
    assert_eq!(*bench.kept.objects(), named("new"));
    assert!(bench.scrape().contains("weft_snapshot_from_state 0"));
    // and a trouble after that brings no state back
    bench.fake.world.borrow_mut().complete = false;
    bench.fake.changed.notify_one();
    bench.kept.changed().await;
    assert!(bench.kept.is_complete());
    assert_eq!(*bench.kept.objects(), named("new"));
}

#[tokio::test(start_paused = true)]
async fn a_state_that_is_refused_is_told_and_nothing_is_served() {
    let dir = tempfile::tempdir().unwrap();
    saved(dir.path(), &named("old")).await;
    let file = place(dir.path()).file();
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.replace("old", "0ld")).unwrap();
    let mut bench = Bench::start(dir.path());
    let said = |bench: &Bench| {
        let items = bench.readiness.items();
        items.into_iter().find(|(what, _)| what == "saved state")
    };
    while said(&bench).is_none() {
        bench.pass(Duration::from_millis(100)).await;
        std::thread::yield_now();
    }
    assert!(!bench.kept.is_complete());
    let Some((_, State::Ready(Some(note)))) = said(&bench) else {
        panic!("{:?}", said(&bench));
    };
    assert!(
        note.contains("objects.json is not used: it is damaged: its checksum"),
        "{note}"
    );
    bench.list(named("new"));
    bench.kept.changed().await;
    assert_eq!(said(&bench), Some(("saved state".into(), State::Ready(None))));
}

#[tokio::test(start_paused = true)]
async fn without_a_state_the_lists_are_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let mut bench = Bench::start(dir.path());
    bench.pass(GRACE * 100).await;
    assert!(!bench.kept.is_complete() && bench.readiness.items().is_empty());
}

#[tokio::test(start_paused = true)]
async fn the_state_is_written_seldom_and_at_the_end() {
    let dir = tempfile::tempdir().unwrap();
    let mut bench = Bench::start(dir.path());
    bench.list(named("a"));
    bench.kept.changed().await;
    bench.pass(SAVE_EVERY - Duration::from_millis(1)).await;
    assert!(!place(dir.path()).file().exists(), "not at once");
    bench.until("weft_state_writes_total{result=\"ok\"} 1").await;
    // a hundred changes in a second are one more write
    for change in 0..100 {
        bench.list(named(&format!("b{change}")));
        bench.kept.changed().await;
        bench.pass(Duration::from_millis(10)).await;
    }
    assert!(bench.scrape().contains("weft_state_writes_total{result=\"ok\"} 1"));
    bench.until("weft_state_writes_total{result=\"ok\"} 2").await;
    // nothing changes: only the date is renewed, after a while
    bench.pass(SAVE_AGAIN - SAVE_EVERY).await;
    assert!(bench.scrape().contains("weft_state_writes_total{result=\"ok\"} 2"));
    bench.pass(SAVE_EVERY).await;
    bench.until("weft_state_writes_total{result=\"ok\"} 3").await;
    // nor that, while nobody confirms it
    bench.fake.world.borrow_mut().trouble = Some("nobody answers".into());
    bench.pass(SAVE_AGAIN * 3).await;
    assert!(bench.scrape().contains("weft_state_writes_total{result=\"ok\"} 3"));
    // what is unwritten at the end is written then
    bench.list(named("last"));
    bench.kept.changed().await;
    let Bench { kept, fake, .. } = bench;
    kept.close().await;
    assert!(fake.world.borrow().closed, "what other nodes wait for is let go");
    let mut next = Bench::start(dir.path());
    next.kept.changed().await;
    assert_eq!(*next.kept.objects(), named("last"));
}

#[tokio::test(start_paused = true)]
async fn a_directory_that_cannot_be_written_holds_up_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("in-the-way");
    std::fs::write(&file, "").unwrap();
    let mut bench = Bench::start(&file);
    bench.list(named("a"));
    bench.kept.changed().await;
    bench.until("weft_state_writes_total{result=\"error\"} 1").await;
    bench.pass(SAVE_RETRY - Duration::from_secs(1)).await;
    assert!(bench.scrape().contains("weft_state_writes_total{result=\"error\"} 1"));
    assert_eq!(*bench.kept.objects(), named("a"));
    // made writable, it is written
    std::fs::remove_file(&file).unwrap();
    bench.until("weft_state_writes_total{result=\"ok\"} 1").await;
    assert!(place(&file).file().exists());
    bench.kept.close().await;
}

/// Objects with one policy.
fn policy(invalid: Option<&str>, valid: Option<i64>) -> Objects {
    let policy = TrafficPolicy {
        generation: 4,
        created: Some(7),
        targets: vec!["web".into()],
        invalid: invalid.map(str::to_owned),
        valid: valid.map(|generation| ValidPolicy {
            generation,
            targets: vec!["web".into()],
            spec: PolicySpec::default(),
        }),
    };
    Objects {
        policies: [(ObjectRef::new("shop", "p"), policy)].into(),
        ..Objects::default()
    }
}

#[tokio::test(start_paused = true)]
async fn lists_inherit_last_valid_specs_from_the_state() {
    let dir = tempfile::tempdir().unwrap();
    saved(dir.path(), &policy(Some("wrong"), Some(2))).await;
    let (listed, merged) = (policy(Some("still wrong"), None), policy(Some("still wrong"), Some(2)));
    // lists that come before the state is read: it follows at once
    let mut early = Bench::start(dir.path());
    early.list(listed.clone());
    early.kept.changed().await;
    if *early.kept.objects() != merged {
        assert_eq!(*early.kept.objects(), listed);
        early.kept.changed().await;
    }
    assert_eq!(*early.kept.objects(), merged);
    // lists that come when it has been read and does not serve
    let mut in_time = Bench::start(dir.path());
    while in_time.kept.answer.is_none() {
        in_time.pass(Duration::from_millis(1)).await;
        std::thread::yield_now();
    }
    in_time.list(listed.clone());
    in_time.kept.changed().await;
    assert_eq!(*in_time.kept.objects(), merged);
    // lists that replace it
    let mut late = Bench::start(dir.path());
    late.kept.changed().await;
    assert_eq!(*late.kept.objects(), policy(Some("wrong"), Some(2)));
    late.list(listed);
    late.kept.changed().await;
    assert_eq!(*late.kept.objects(), merged);
    // and what was inherited is in the next state
    late.until("weft_state_writes_total{result=\"ok\"} 1").await;
    let mut next = Bench::start(dir.path());
    next.kept.changed().await;
    assert_eq!(*next.kept.objects(), merged);
}
