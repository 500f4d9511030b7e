//! A breaker's rules as tables of events under a turned clock; random lives of one; and what holds while many threads use it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Barrier,
        atomic::{AtomicU32, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use super::{Admission, Breaker, State, Transition, Verdict, View, may_eject};
use crate::model::{CircuitBreaker, WhenAllOpen};

/// `failureThreshold` 3, `successThreshold` 2, `timeout` 100 ms, `halfOpenRequests` 1.
fn settings() -> CircuitBreaker {
    CircuitBreaker {
        failure_threshold: 3,
        success_threshold: 2,
        timeout: Duration::from_millis(100),
        half_open_requests: 1,
        failure_on: BTreeSet::new(),
        max_ejection_percent: 100,
        when_all_open: WhenAllOpen::FailFast,
    }
}

/// A life of one breaker, told in words: `@5` turns the clock to 5 ms; `ok`, `fail` and `neither` are attempts that are let through and end at once, `kept` is a
/// failure that may not eject; `no` is an attempt that is not let through; `+a` one that is and goes on, `-a:ok` ends it, `~a` drops it;
/// `threshold:2`, `successes:1`, `timeout:50`, `places:2` change the settings, `off` and `on` take them away and bring them back;
/// from `blind` to `on` attempts know none, since they were planned before there were any; `=open` looks at the state.
struct Life {
    breaker: Breaker,
    settings: CircuitBreaker,
    is_on: bool,
    start: Instant,
    now: Instant,
    under_way: BTreeMap<String, Admission>,
    transitions: Vec<Transition>,
}

impl Life {
    fn new() -> Self {
        let start = Instant::now();
        Self {
            breaker: Breaker::default(),
            settings: settings(),
            is_on: true,
            start,
            now: start,
            under_way: BTreeMap::new(),
            transitions: Vec::new(),
        }
    }

    fn tell(story: &str) -> Self {
        let mut life = Self::new();
        for word in story.split_whitespace() {
            life.word(word, story);
        }
        life
    }

    fn settings(&self) -> Option<&CircuitBreaker> {
        self.is_on.then_some(&self.settings)
    }

    fn word(&mut self, word: &str, story: &str) {
        if let Some(time) = word.strip_prefix('@') {
            self.now = self.start + Duration::from_millis(time.parse().unwrap());
        } else if let Some(name) = word.strip_prefix('+') {
            let admission = self.admit();
            let admission = admission.unwrap_or_else(|| panic!("{word} is not let through in {story}"));
            self.under_way.insert(name.to_owned(), admission);
        } else if let Some((name, verdict)) = word.strip_prefix('-').and_then(|end| end.split_once(':')) {
            let admission = self.under_way.remove(name).unwrap();
            self.settle(admission, verdict);
        } else if let Some(name) = word.strip_prefix('~') {
            drop(self.under_way.remove(name).unwrap());
        } else if let Some(state) = word.strip_prefix('=') {
            assert_eq!(self.breaker.state().name(), state, "at {word} in {story}");
            assert_eq!(
                self.breaker.view(self.now).state,
                self.breaker.state(),
                "the look and the lock: {story}"
            );
        } else if let Some((field, value)) = word.split_once(':') {
            self.set(field, value.parse().unwrap());
        } else if word == "no" {
            assert!(self.admit().is_none(), "it is let through in {story}");
        } else if matches!(word, "on" | "off" | "blind") {
            self.is_on = word == "on";
            if word == "off" {
                self.transitions.extend(self.breaker.forget());
            }
        } else {
            let admission = self.admit();
            let admission = admission.unwrap_or_else(|| panic!("{word} is not let through in {story}"));
            self.settle(admission, word);
        }
    }

    fn admit(&mut self) -> Option<Admission> {
        let usable = self.breaker.is_usable(self.settings(), self.now);
        let admission = self.breaker.admit(self.settings(), self.now);
        assert_eq!(usable, admission.is_some(), "the look says what the lock does");
        self.transitions
            .extend(admission.as_ref().and_then(Admission::transition));
        admission
    }

    fn settle(&mut self, admission: Admission, word: &str) {
        let (verdict, may_eject) = match word {
            "ok" => (Verdict::Success, true),
            "fail" => (Verdict::Failure, true),
            "kept" => (Verdict::Failure, false),
            "neither" => (Verdict::Neither, true),
            _ => panic!("no word: {word}"),
        };
        let transition = self
            .breaker
            .settle(self.settings(), admission, verdict, self.now, || may_eject);
        self.transitions.extend(transition);
    }

    fn set(&mut self, field: &str, value: u32) {
        match field {
            "threshold" => self.settings.failure_threshold = value,
            "successes" => self.settings.success_threshold = value,
            "timeout" => self.settings.timeout = Duration::from_millis(value.into()),
            "places" => self.settings.half_open_requests = value,
            _ => panic!("no field: {field}"),
        }
    }
}

#[test]
fn lives_of_a_breaker() {
    for story in [
        // closed: failures in a row, as they end
        "fail fail =closed fail =open no",
        "fail fail ok fail fail =closed fail =open",
        "fail fail neither fail =open",
        "threshold:1 fail =open",
        "+a +b +c +d -a:fail -b:fail -d:ok -c:fail =closed",
        // open, until the timeout is over
        "fail fail fail @99 no =open @100 +a =half_open",
        "@7 fail fail fail @106 no @107 +a =half_open",
        // half open: so many trials at the same time, so many successes in a row
        "fail fail fail @100 +a no -a:ok =half_open +b no -b:ok =closed ok",
        "places:2 fail fail fail @100 +a +b no -a:ok =half_open +c no -c:ok =closed",
        "fail fail fail @100 ok ok =closed fail fail =closed fail =open",
        // one failed trial opens it again, and the timeout begins anew
        "fail fail fail @100 ok fail =open @199 no @200 ok =half_open ok =closed",
        "fail fail fail @100 kept =open",
        // a trial that says nothing gives its place back
        "fail fail fail @100 +a no -a:neither =half_open ok ok =closed",
        "fail fail fail @100 +a no ~a =half_open +b no -b:ok ok =closed",
        // what comes late neither opens nor closes
        "+late fail fail fail =open -late:ok =open no",
        "+late fail fail fail @100 +a -late:fail =half_open no -a:ok ok =closed",
        "+late fail fail fail @100 ok -late:ok =half_open ok =closed",
        "+late fail fail fail @100 ok ok =closed fail fail -late:fail =closed fail =open",
        "+late fail fail fail @100 ok ok =closed fail fail -late:ok fail =open",
        "places:2 fail fail fail @100 +late fail =open @200 +a +b no -late:ok =half_open no -a:ok -b:ok =closed",
        "places:2 fail fail fail @100 +late fail =open @200 +a +b no ~late =half_open no",
        "places:3 fail fail fail @100 +a +late ok -a:ok =closed fail fail -late:fail =closed fail =open",
        // too many are ejected: closed, and the next failure asks again
        "fail fail kept =closed kept =closed fail =open",
        "fail fail kept ok fail fail =closed fail =open",
        // other settings count from the next event on
        "fail threshold:2 =closed fail =open",
        "fail fail fail threshold:9 =open @100 ok ok =closed",
        "threshold:9 fail fail fail fail threshold:2 =closed ok =closed fail =closed fail =open",
        "fail fail fail timeout:50 @49 no @50 ok =half_open",
        "fail fail fail timeout:500 @100 no @500 ok =half_open",
        "successes:3 fail fail fail @100 ok successes:1 =half_open ok =closed",
        "fail fail fail @100 +a no places:2 +b no -a:ok -b:ok =closed",
        "places:2 fail fail fail @100 +a +b places:1 -a:ok no -b:ok =closed",
        // without settings everything goes through, and what was is forgotten
        "off fail fail fail fail =closed on fail fail =closed fail =open",
        "fail fail off ok on fail fail =closed",
        "fail fail off neither on fail fail =closed",
        "fail fail fail =open off ok =closed on fail fail =closed",
        "fail fail fail =open off +a =closed",
        "fail fail fail @100 +a =half_open off -a:fail =closed on fail fail =closed",
        "fail fail fail @100 +a off +b =closed on ~a -b:ok fail fail =closed fail =open",
        // what went out before there were settings ends after the breaker has opened
        "blind +a on fail fail fail =open blind -a:ok on =open no",
        "blind +a on fail fail fail @100 +b =half_open blind -a:ok on =half_open no -b:ok ok =closed",
        // or begins even then
        "fail fail fail =open blind ok on =open no",
        "fail fail fail =open blind +a on -a:ok =open no",
        "fail fail fail @100 +b =half_open blind ok +a ~a fail on =half_open no -b:ok ok =closed",
        "fail fail fail @100 +a =half_open blind -a:ok on =half_open ok ok =closed",
    ] {
        let life = Life::tell(story);
        let ends = life.transitions.windows(2).map(|pair| (pair[0].to, pair[1].from));
        for (to, from) in ends {
            assert_eq!(to, from, "each transition begins where the last one ended: {story}");
        }
        let last = life.transitions.last().map_or(State::Closed, |last| last.to);
        assert_eq!(last, life.breaker.state(), "no transition is untold: {story}");
    }
}

#[test]
fn transitions_are_told_once_and_in_order() {
    let life = Life::tell("fail fail fail @100 ok fail @200 ok ok");
    let told: Vec<_> = life
        .transitions
        .iter()
        .map(|step| format!("{} {}", step.from.name(), step.to.name()))
        .collect();
    let expected = [
        "closed open",
        "open half_open",
        "half_open open",
        "open half_open",
        "half_open closed",
    ];
    assert_eq!(told, expected);
}

#[test]
fn people_see_what_is_counted() {
    let ms = Duration::from_millis;
    for (story, state, failures, successes, open) in [
        ("", State::Closed, 0, 0, None),
        ("fail fail", State::Closed, 2, 0, None),
        ("@10 fail fail fail @40", State::Open, 0, 0, Some(ms(30))),
        ("@10 fail fail fail @400", State::Open, 0, 0, Some(ms(390))),
        ("fail fail fail @100 ok", State::HalfOpen, 0, 1, None),
    ] {
        let life = Life::tell(story);
        let view = View {
            state,
            failures,
            successes,
            open,
        };
        assert_eq!(life.breaker.view(life.now), view, "{story}");
        let until = open.map(|open| ms(100).saturating_sub(open));
        assert_eq!(view.open_for(&life.settings), until, "{story}");
    }
    let values = [State::Closed, State::HalfOpen, State::Open].map(State::metric);
    assert_eq!(values, [0, 1, 2]);
}

#[test]
fn a_failure_asks_for_the_ejection_only_when_it_would_open() {
    let (breaker, settings, now) = (Breaker::default(), settings(), Instant::now());
    let asked = |verdict| {
        let mut asked = 0;
        let admission = breaker.admit(Some(&settings), now).unwrap();
        breaker.settle(Some(&settings), admission, verdict, now, || {
            asked += 1;
            false
        });
        asked
    };
    let [failure, success, neither] = [Verdict::Failure, Verdict::Success, Verdict::Neither];
    let verdicts = [failure, failure, neither, failure, failure, neither, success, failure];
    assert_eq!(verdicts.map(asked), [0, 0, 0, 1, 1, 0, 0, 0]);
}

#[test]
fn one_more_may_be_ejected() {
    for (percent, ejected, total, expected) in [
        (100, 0, 1, true),
        (0, 0, 3, true),
        (0, 1, 3, false),
        (50, 1, 3, false),
        (50, 1, 4, true),
        (50, 2, 4, false),
        (67, 1, 3, true),
        (66, 1, 3, false),
        (100, 2, 3, true),
        (100, 3, 3, false),
        (10, 0, 0, true),
    ] {
        assert_eq!(
            may_eject(percent, ejected, total),
            expected,
            "{ejected} of {total} at {percent} %"
        );
    }
}

/// Random lives with random settings, each of which ends with every attempt dropped: no place is lost, and the look always says what the lock does.
#[test]
fn no_place_is_ever_lost() {
    let mut seen_half_open = 0;
    for seed in 1..=2000 {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut life = Life::new();
        for step in 0..100 {
            random_step(&mut life, &mut random, step);
        }
        life.is_on = true;
        life.under_way.clear();
        seen_half_open += u32::from(life.breaker.state() == State::HalfOpen);
        life.now += life.settings.timeout;
        let places = life.settings.half_open_requests;
        let all: Vec<_> = (0..places).map(|_| life.admit()).collect();
        assert!(
            all.iter().all(Option::is_some),
            "seed {seed}: every place is free again"
        );
        let is_full = life.breaker.state() == State::Closed || life.admit().is_none();
        assert!(is_full, "seed {seed}: and there is no other");
    }
    assert!(seen_half_open > 100, "the lives are worth living: {seen_half_open}");
}

fn random_step(life: &mut Life, random: &mut fastrand::Rng, step: u32) {
    match random.u32(..20) {
        0..9 => {
            let admission = life.admit();
            life.under_way
                .extend(admission.map(|admission| (step.to_string(), admission)));
        }
        9..16 => {
            let Some((_, admission)) = life.under_way.pop_first() else {
                return;
            };
            let word = ["ok", "fail", "fail", "kept", "neither"][random.usize(..5)];
            life.settle(admission, word);
        }
        16 => drop(life.under_way.pop_last()),
        17 => life.is_on = !life.is_on,
        18 => life.now += Duration::from_millis(random.u64(..150)),
        _ => {
            let field = ["threshold", "successes", "timeout", "places"][random.usize(..4)];
            life.set(field, random.u32(1..5));
        }
    }
}

/// Threads that race; on two cores they are cut anywhere.
const THREADS: u32 = 8;
const ROUNDS: u32 = 200;

#[test]
fn under_concurrency_no_more_fail_than_the_threshold_and_what_is_in_flight() {
    let settings = CircuitBreaker {
        timeout: Duration::from_secs(3600),
        ..settings()
    };
    let now = Instant::now();
    for round in 0..ROUNDS {
        let (breaker, failed, opened) = (Breaker::default(), AtomicU32::new(0), AtomicU32::new(0));
        let barrier = Barrier::new(usize::try_from(THREADS).unwrap());
        let client = || {
            barrier.wait();
            while let Some(admission) = breaker.admit(Some(&settings), now) {
                failed.fetch_add(1, Ordering::Relaxed);
                let transition = breaker.settle(Some(&settings), admission, Verdict::Failure, now, || true);
                opened.fetch_add(transition.map_or(0, |_| 1), Ordering::Relaxed);
            }
        };
        thread::scope(|scope| {
            for _ in 0..THREADS {
                scope.spawn(client);
            }
        });
        let failed = failed.into_inner();
        let most = settings.failure_threshold + THREADS - 1;
        assert!(
            (settings.failure_threshold..=most).contains(&failed),
            "round {round}: {failed} failed"
        );
        assert_eq!(opened.into_inner(), 1, "round {round}: one of them opened it");
    }
}

#[test]
fn threads_that_race_for_places_get_no_more_than_there_are() {
    let settings = CircuitBreaker {
        half_open_requests: 2,
        ..settings()
    };
    let now = Instant::now();
    let due = now + settings.timeout;
    for round in 0..ROUNDS {
        let breaker = Breaker::default();
        for _ in 0..settings.failure_threshold {
            let admission = breaker.admit(Some(&settings), now).unwrap();
            breaker.settle(Some(&settings), admission, Verdict::Failure, now, || true);
        }
        let barrier = Barrier::new(usize::try_from(THREADS).unwrap());
        let client = || {
            barrier.wait();
            breaker.admit(Some(&settings), due)
        };
        let admissions: Vec<_> = thread::scope(|scope| {
            let clients: Vec<_> = (0..THREADS).map(|_| scope.spawn(client)).collect();
            clients.into_iter().map(|client| client.join().unwrap()).collect()
        });
        let through: Vec<_> = admissions.into_iter().flatten().collect();
        assert_eq!(through.len(), 2, "round {round}");
        let half_opened = through.iter().filter_map(Admission::transition).count();
        assert_eq!(half_opened, 1, "round {round}: one of them half opened it");
    }
}
