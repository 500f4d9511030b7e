//! The elected writer's memory, with a clock turned by hand.

use std::time::Duration;

use serde_json::json;
use tokio::time::Instant;

use super::{
    super::{
        super::{
            exchange::Trouble,
            ledger::{PAUSE_FIRST, PAUSE_MAX, REFUSED_FOR, RETRY_AFTER_MAX, SHOWN_WITHIN},
        },
        backlog::{Backlog, CONFLICT_FIRST, CONFLICT_MAX, Next, Outcome, REMOVED_AFTER, SAME_AFTER},
        entries::{Due, Key, Subject, Wanted, due},
    },
    accepted, content, route, verdict,
};
use crate::{
    ids::ObjectRef,
    model::Content,
    watch::{
        claims::{Claim, Claims},
        objects::Kind,
    },
};

const SECOND: Duration = Duration::from_secs(1);

fn top() -> f64 {
    1.0
}

/// A status that should say this of these routes.
fn wanting(names: &[&'static str], message: &str) -> Due {
    let content = content(
        names
            .iter()
            .map(|name| (*name, verdict(1, &["a"], &accepted(true, message)))),
    );
    let claim = Claim {
        generation: 1,
        ..Claim::default()
    };
    let claims: Claims = names
        .iter()
        .map(|name| ((Kind::HttpRoute, ObjectRef::new("shop", *name)), claim.clone()))
        .collect();
    due(&content, &claims)
}

/// Statuses that should lose our entries.
fn removing(name: &str, shown: &str) -> Due {
    let claim = Claim {
        entries: vec![json!({"shown": shown})],
        ..Claim::default()
    };
    due(
        &Content::default(),
        &[((Kind::HttpRoute, ObjectRef::new("shop", name)), claim)].into(),
    )
}

fn failed(retry_after: Option<Duration>) -> Outcome {
    Outcome::Failed {
        trouble: Trouble {
            name: "failed",
            detail: String::new(),
        },
        retry_after,
    }
}

struct Turned {
    backlog: Backlog,
    now: Instant,
}

impl Turned {
    fn new(due: Due) -> Self {
        let mut turned = Self {
            backlog: Backlog::new(top),
            now: Instant::now(),
        };
        turned.observe(due);
        turned
    }

    fn observe(&mut self, due: Due) {
        self.backlog.observe(due, self.now);
    }

    /// The next write, and how long it had to wait; none if nothing is ever due.
    fn next(&mut self) -> Option<(Key, Duration)> {
        let before = self.now;
        loop {
            match self.backlog.next(self.now) {
                Next::Write(key, _) => return Some((key, self.now - before)),
                Next::At(at) => {
                    assert!(at > self.now, "it waits for the past");
                    self.now = at;
                }
                Next::Idle => return None,
            }
        }
    }

    fn settle(&mut self, name: &str, outcome: &Outcome) -> bool {
        self.backlog.settle(&route(name), outcome, self.now)
    }
}

#[test]
fn what_is_written_is_done_until_the_watch_shows_otherwise() {
    let mut turned = Turned::new(wanting(&["r"], "one"));
    assert_eq!(turned.next(), Some((route("r"), Duration::ZERO)));
    assert!(turned.settle("r", &Outcome::Written));
    assert_eq!(turned.backlog.pending(), 0);
    turned.observe(wanting(&["r"], "one"));
    assert_eq!(
        turned.next(),
        Some((route("r"), SHOWN_WITHIN)),
        "the watch is behind for too long"
    );
    turned.settle("r", &Outcome::Unchanged);
    turned.observe(Due::new());
    assert_eq!(turned.next(), None);
}

#[test]
fn the_same_object_is_written_again_after_a_pause_and_as_it_is_wanted_last() {
    let mut turned = Turned::new(wanting(&["r"], "one"));
    turned.next();
    turned.settle("r", &Outcome::Written);
    turned.observe(wanting(&["r"], "two"));
    turned.observe(Due::new());
    turned.observe(wanting(&["r", "s"], "three"));
    assert_eq!(turned.next(), Some((route("s"), Duration::ZERO)), "others do not wait");
    turned.settle("s", &Outcome::Written);
    assert_eq!(turned.next(), Some((route("r"), SAME_AFTER)));
    let Next::Write(_, wanted) = turned.backlog.next(turned.now) else {
        unreachable!()
    };
    assert_eq!(Some(&*wanted), wanting(&["r"], "three").get(&route("r")));
}

#[test]
fn entries_are_removed_only_when_that_lasts() {
    let mut turned = Turned::new(removing("r", "one"));
    turned.now += REMOVED_AFTER - SECOND;
    turned.observe(removing("r", "another"));
    assert_eq!(turned.next(), Some((route("r"), SECOND)));
    let mut turned = Turned::new(removing("r", "one"));
    turned.now += REMOVED_AFTER - SECOND;
    turned.observe(Due::new());
    turned.observe(removing("r", "one"));
    assert_eq!(
        turned.next(),
        Some((route("r"), REMOVED_AFTER)),
        "it was needed in between"
    );
}

#[test]
fn conflicts_hold_up_one_object_ever_longer_and_no_other() {
    let mut turned = Turned::new(wanting(&["r", "s"], "one"));
    let mut waits = Vec::new();
    for _ in 0..12 {
        let (key, waited) = turned.next().unwrap();
        if key == route("s") {
            turned.settle("s", &Outcome::Written);
            turned.observe(wanting(&["r"], "one"));
            continue;
        }
        waits.push(waited);
        assert!(!turned.settle("r", &Outcome::Conflict));
    }
    assert_eq!(
        waits[..4],
        [Duration::ZERO, CONFLICT_FIRST, CONFLICT_FIRST * 2, CONFLICT_FIRST * 4]
    );
    assert_eq!(*waits.last().unwrap(), CONFLICT_MAX);
    assert!(turned.next().is_some() && turned.settle("r", &Outcome::Written));
}

#[test]
fn failures_hold_up_a_kind_ever_longer_and_no_other() {
    let mut turned = Turned::new(wanting(&["r", "s"], "one"));
    let policy = (Subject::Policy, ObjectRef::new("shop", "p"));
    let mut waits = Vec::new();
    for _ in 0..10 {
        let (key, waited) = turned.next().unwrap();
        waits.push(waited);
        turned.backlog.settle(&key, &failed(None), turned.now);
    }
    assert_eq!(
        waits[..4],
        [Duration::ZERO, PAUSE_FIRST, PAUSE_FIRST * 2, PAUSE_FIRST * 4]
    );
    assert_eq!(*waits.last().unwrap(), PAUSE_MAX);
    let mut both = wanting(&["r", "s"], "one");
    both.insert(
        policy.clone(),
        Wanted {
            uid: String::new(),
            generation: 1,
            entries: both[&route("r")].entries.clone(),
            shown: Vec::new(),
        },
    );
    turned.observe(both);
    assert_eq!(turned.next(), Some((policy, Duration::ZERO)));
}

#[test]
fn a_kind_that_was_written_again_starts_with_a_short_pause_when_it_fails_next() {
    for ended in [Outcome::Written, Outcome::Conflict] {
        let mut turned = Turned::new(wanting(&["r"], "one"));
        for _ in 0..5 {
            turned.next();
            turned.settle("r", &failed(None));
        }
        assert!(turned.next().unwrap().1 > PAUSE_FIRST * 2);
        turned.settle("r", &ended);
        turned.observe(wanting(&["r"], "another"));
        turned.next();
        turned.settle("r", &failed(None));
        assert_eq!(turned.next().unwrap().1, PAUSE_FIRST, "after {ended:?}");
    }
}

#[test]
fn what_the_server_asks_for_is_kept_within_reason_and_what_it_refuses_is_left_alone() {
    let mut turned = Turned::new(wanting(&["r"], "one"));
    for (asked, waits) in [
        (Duration::from_secs(70), Duration::from_secs(70)),
        (Duration::from_secs(1 << 40), RETRY_AFTER_MAX),
    ] {
        turned.next();
        turned.settle("r", &failed(Some(asked)));
        assert_eq!(turned.next().unwrap().1, waits);
    }
    let trouble = Trouble {
        name: "refused",
        detail: String::new(),
    };
    turned.settle("r", &Outcome::Refused(trouble));
    assert_eq!(turned.next().unwrap().1, REFUSED_FOR);
    turned.settle("r", &Outcome::Gone);
    turned.observe(wanting(&["r"], "another"));
    assert_eq!(turned.next().unwrap().1, Duration::ZERO, "it is another by now");
}

#[test]
fn objects_take_turns() {
    let mut turned = Turned::new(wanting(&["a", "b", "c"], "one"));
    let mut order = Vec::new();
    for message in ["two", "three", "four", "five"] {
        let (key, _) = turned.next().unwrap();
        turned.settle(&key.1.name, &Outcome::Conflict);
        order.push(key.1.name);
        turned.now += CONFLICT_MAX;
        turned.observe(wanting(&["a", "b", "c"], message));
    }
    assert_eq!(order, ["a", "b", "c", "a"]);
}
