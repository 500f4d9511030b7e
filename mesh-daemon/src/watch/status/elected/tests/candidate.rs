//! The lease machine, step by step, with a clock turned by hand.

use std::time::Duration;

use tokio::time::Instant;

use super::super::candidate::{
    Candidate, LEASE_DURATION, LOOK_EVERY_MAX, LOOK_EVERY_MIN, Next, PAUSE_MAX, RENEW_EVERY, START_AFTER, Said, Seen,
    Step, TERM, look_every,
};

const SECOND: Duration = Duration::from_secs(1);
/// A small cluster.
const NODES: usize = 3;

fn half() -> f64 {
    0.5
}

fn seen(holder: &str, renewal: &str) -> Said {
    Said::Seen(Some(Seen {
        holder: holder.to_owned(),
        renewal: renewal.to_owned(),
        duration: LEASE_DURATION,
    }))
}

const FAILED: Said = Said::Failed { retry_after: None };

struct Turned {
    candidate: Candidate,
    nodes: usize,
    begun: Instant,
    now: Instant,
}

impl Turned {
    fn new(nodes: usize) -> Self {
        let begun = Instant::now();
        Self {
            candidate: Candidate::new("me".to_owned(), nodes, half, begun),
            nodes,
            begun,
            now: begun,
        }
    }

    /// Turns the clock to what the candidate waits for, and hands back what it asks then and after how long.
    fn ask(&mut self) -> (Step, Duration) {
        let before = self.now;
        loop {
            match self.candidate.next(self.now) {
                Next::At(at) => {
                    assert!(at > self.now, "it waits for the past");
                    self.now = at;
                }
                Next::Ask(step) => return (step, self.now - before),
            }
        }
    }

    fn say(&mut self, step: Step, said: Said) {
        self.candidate.settle(step, said, self.now, self.nodes, self.now);
    }

    /// Until its first look, and through it.
    fn look(&mut self, said: Said) {
        assert_eq!(self.ask().0, Step::Look);
        self.say(Step::Look, said);
    }

    fn leads(&self) -> bool {
        self.candidate.leads_until(self.now).is_some()
    }
}

#[test]
fn a_lease_that_nobody_made_or_holds_is_taken_at_once() {
    for (said, step) in [
        (Said::Seen(None), Step::Create),
        (seen("", "1"), Step::Take),
        (seen("me", "1"), Step::Take),
    ] {
        let mut turned = Turned::new(NODES);
        turned.look(said);
        assert!(!turned.leads());
        assert_eq!(turned.ask(), (step, Duration::ZERO));
        turned.say(step, Said::Held);
        assert_eq!(turned.candidate.leads_until(turned.now), Some(turned.now + TERM));
        assert_eq!(turned.ask(), (Step::Renew, RENEW_EVERY));
    }
}

#[test]
fn the_first_look_is_soon_and_spread_by_the_clusters_size() {
    for (nodes, wait) in [(1, 0.025), (100, 2.5), (1000, 50.0), (1_000_000, 300.0)] {
        let mut turned = Turned::new(nodes);
        turned.ask();
        let waited = (turned.now - turned.begun - START_AFTER).as_secs_f64();
        assert!((waited - wait).abs() < 0.001, "{nodes} nodes: {waited} s");
    }
    for (nodes, every) in [
        (0, LOOK_EVERY_MIN),
        (100, 5 * SECOND),
        (400, 20 * SECOND),
        (5000, 250 * SECOND),
        (6000, LOOK_EVERY_MAX),
        (usize::MAX, LOOK_EVERY_MAX),
    ] {
        assert_eq!(look_every(nodes), every, "{nodes}");
    }
}

#[test]
fn a_holder_that_renews_keeps_it_and_one_that_does_not_loses_it() {
    let mut turned = Turned::new(NODES);
    for renewal in 0..20 {
        turned.look(seen("other", &renewal.to_string()));
    }
    let last_seen = turned.now;
    let step = loop {
        match turned.ask().0 {
            Step::Look => turned.say(Step::Look, seen("other", "19")),
            step => break step,
        }
    };
    assert_eq!(step, Step::Take);
    assert_eq!(turned.now - last_seen, LEASE_DURATION, "a look at the very time");
}

#[test]
fn what_is_touched_just_before_it_is_taken_may_be_taken_still() {
    let mut turned = Turned::new(NODES);
    turned.look(seen("other", "1"));
    while turned.ask().0 == Step::Look {
        turned.say(Step::Look, seen("other", "1"));
    }
    turned.say(Step::Take, Said::Changed);
    turned.look(seen("other", "1"));
    assert_eq!(turned.ask(), (Step::Take, Duration::ZERO));
    // and not if its holder was only late
    turned.say(Step::Take, Said::Changed);
    turned.look(seen("other", "2"));
    assert_eq!(turned.ask().0, Step::Look);
}

#[test]
fn a_longer_lease_is_respected_and_an_odd_one_is_not() {
    for (seconds, taken_after) in [(0, 15), (60, 60), (1 << 40, 600)] {
        let mut turned = Turned::new(NODES);
        let lease = Said::Seen(Some(Seen {
            holder: "other".to_owned(),
            renewal: "1".to_owned(),
            duration: Duration::from_secs(seconds),
        }));
        turned.look(lease.clone());
        let first = turned.now;
        while turned.ask().0 == Step::Look {
            turned.say(Step::Look, lease.clone());
        }
        assert_eq!(turned.now - first, Duration::from_secs(taken_after), "{seconds} s");
    }
}

#[test]
fn in_a_large_cluster_looks_come_in_pairs_a_lease_apart() {
    let mut turned = Turned::new(1000);
    turned.look(seen("other", "0"));
    let mut waits = Vec::new();
    for renewal in 1..=4 {
        let (step, waited) = turned.ask();
        assert_eq!(step, Step::Look);
        waits.push(waited);
        turned.say(Step::Look, seen("other", &renewal.to_string()));
    }
    // twice 50 s for two looks
    assert_eq!(waits, [15 * SECOND, 85 * SECOND, 15 * SECOND, 85 * SECOND]);
    // the second look of a pair that sees the same is the last
    assert_eq!(turned.ask(), (Step::Look, 15 * SECOND));
    turned.say(Step::Look, seen("other", "4"));
    assert_eq!(turned.ask(), (Step::Take, Duration::ZERO));
}

#[test]
fn a_term_ends_without_a_renewal_and_counts_from_before_it_was_asked() {
    let mut turned = Turned::new(NODES);
    turned.look(Said::Seen(None));
    let asked = turned.now;
    turned.now += 3 * SECOND;
    turned
        .candidate
        .settle(Step::Create, Said::Held, asked, NODES, turned.now);
    assert_eq!(turned.candidate.leads_until(turned.now), Some(asked + TERM));
    let mut tries = 0;
    while turned.candidate.leads_until(turned.now).is_some() {
        match turned.candidate.next(turned.now) {
            Next::At(at) => turned.now = at,
            Next::Ask(step) => {
                assert_eq!(step, Step::Renew);
                tries += 1;
                turned.say(step, FAILED);
            }
        }
    }
    assert_eq!((turned.now, tries), (asked + TERM, 5));
    assert_eq!(turned.ask().0, Step::Look, "it is one of many again");
    turned.say(Step::Look, seen("me", "7"));
    assert_eq!(turned.ask().0, Step::Take, "nobody took it meanwhile");
}

#[test]
fn a_lease_that_changed_under_the_holder_ends_its_term_at_once() {
    let mut turned = Turned::new(NODES);
    turned.look(Said::Seen(None));
    turned.say(Step::Create, Said::Held);
    assert_eq!(turned.ask().0, Step::Renew);
    turned.say(Step::Renew, Said::Changed);
    assert!(!turned.leads());
    assert_eq!(turned.ask(), (Step::Look, Duration::ZERO));
    turned.say(Step::Look, seen("other", "9"));
    assert!(!turned.leads());
    assert_eq!(turned.ask().0, Step::Look);
}

#[test]
fn who_comes_second_looks_again() {
    let mut turned = Turned::new(NODES);
    turned.look(Said::Seen(None));
    turned.say(Step::Create, Said::Changed);
    assert!(!turned.leads());
    let (step, waited) = turned.ask();
    assert_eq!((step, waited), (Step::Look, LOOK_EVERY_MIN));
}

#[test]
fn troubles_make_looks_rarer_and_their_end_makes_them_as_before() {
    let mut turned = Turned::new(NODES);
    let mut waits = Vec::new();
    for _ in 0..10 {
        let (step, waited) = turned.ask();
        assert_eq!(step, Step::Look);
        waits.push(waited.as_secs_f64());
        turned.say(step, FAILED);
    }
    assert_eq!(waits[1..], [5.0, 5.0, 5.0, 6.0, 12.0, 24.0, 48.0, 90.0, 90.0]);
    turned.look(seen("other", "1"));
    assert_eq!(turned.ask().1, LOOK_EVERY_MIN);
    let asked = Said::Failed {
        retry_after: Some(Duration::from_secs(1 << 40)),
    };
    turned.say(Step::Look, asked);
    assert_eq!(
        turned.ask().1,
        PAUSE_MAX,
        "an odd answer does not keep it away for ever"
    );
}

#[test]
fn a_namespace_that_is_missing_is_asked_for_ever_more_rarely() {
    let mut turned = Turned::new(NODES);
    let mut creates = 0;
    while turned.now < turned.begun + Duration::from_secs(3600) {
        match turned.ask().0 {
            Step::Look => turned.say(Step::Look, Said::Seen(None)),
            step => {
                assert_eq!(step, Step::Create);
                creates += 1;
                turned.say(step, FAILED);
            }
        }
        assert_eq!(turned.candidate.is_well(), creates == 0, "it is told once");
    }
    assert!((30..100).contains(&creates), "{creates} within an hour");
}
