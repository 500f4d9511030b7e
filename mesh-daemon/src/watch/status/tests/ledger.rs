//! The bucket and the writer's memory, with a clock turned by hand.

use std::time::Duration;

use tokio::time::Instant;

use super::{
    super::{
        bucket::{Bucket, TOKEN_EVERY, TOKENS_MAX},
        desired::desired,
        exchange::Trouble,
        ledger::{
            FORGOTTEN_AFTER, LASTING, Ledger, Next, PAUSE_FIRST, PAUSE_MAX, REFUSED_FOR, RETRY_AFTER_MAX, SHOWN_WITHIN,
            SPREAD_MAX,
        },
        write::{Outcome, Write},
    },
    INTERFACE, ack, aside, condition, locals, node, object,
};
use crate::{
    model::{Ack, Capture, NotCaptured},
    watch::local::LocalPods,
};

const POD: &str = "shop/web";
const CAPTURED: Capture = Capture::Captured(INTERFACE);
const NO_ADDRESS: Capture = Capture::Not(NotCaptured::NoAddress);
const NOT_LABELLED: Capture = Capture::Not(NotCaptured::NotLabelled);
const SECOND: Duration = Duration::from_secs(1);

struct Turned {
    ledger: Ledger,
    now: Instant,
    pods: LocalPods,
}

impl Turned {
    fn new(pods: &[&str]) -> Self {
        Self {
            ledger: Ledger::new(|| 1.0),
            now: Instant::now(),
            pods: locals(pods),
        }
    }

    fn look(&mut self, applied: &Ack) {
        self.ledger
            .observe(desired(&node(), Some(applied), &self.pods), self.now);
    }

    fn turn(&mut self, by: Duration) {
        self.now += by;
    }

    /// The next write in a word.
    fn next(&self) -> String {
        match self.ledger.next(self.now) {
            Next::Write(write) => word(&write),
            Next::At(at) => format!("in {} s", (at - self.now).as_secs_f64()),
            Next::Idle => "idle".into(),
        }
    }

    fn settle(&mut self, outcome: &Outcome) {
        let Next::Write(write) = self.ledger.next(self.now) else {
            panic!("nothing to write: {}", self.next());
        };
        self.ledger.settle(&write, outcome, self.now);
    }

    /// Writes all that is due, and says what it was.
    fn write_all(&mut self) -> Vec<String> {
        let mut written = Vec::new();
        while matches!(self.ledger.next(self.now), Next::Write(_)) {
            written.push(self.next());
            self.settle(&Outcome::Written);
        }
        written
    }

    /// The watch shows what was written.
    fn show(&mut self, applied: &Ack) {
        for (name, wanted) in desired(&node(), Some(applied), &self.pods).conditions {
            self.pods.get_mut(&name).unwrap().captured = Some(wanted.condition);
        }
    }
}

fn word(write: &Write) -> String {
    match write {
        Write::Condition {
            pod,
            condition,
            is_transition,
            ..
        } => {
            let transition = if *is_transition { "" } else { " again" };
            format!("{} {}{transition}", pod.name, condition.reason)
        }
        Write::Event { notice, .. } => format!("event {} {}", notice.regarding.name, notice.reason),
    }
}

fn trouble() -> Trouble {
    Trouble {
        name: "failed",
        detail: "down".into(),
    }
}

fn failed(retry_after: Option<Duration>) -> Outcome {
    Outcome::Failed {
        trouble: trouble(),
        retry_after,
    }
}

#[test]
fn the_bucket_allows_a_burst_and_then_a_rate() {
    let mut now = Instant::now();
    let mut bucket = Bucket::new(TOKEN_EVERY, TOKENS_MAX, now);
    for token in 0..TOKENS_MAX {
        assert_eq!(bucket.take(1, now), Ok(()), "token {token}");
    }
    assert_eq!(bucket.take(1, now), Err(now + TOKEN_EVERY));
    now += TOKEN_EVERY;
    assert_eq!(bucket.take(1, now), Ok(()));
    assert_eq!(bucket.take(1, now), Err(now + TOKEN_EVERY));
    now += TOKEN_EVERY * 1000;
    let burst = (0..100).filter(|_| bucket.take(1, now).is_ok()).count();
    assert_eq!(burst, TOKENS_MAX as usize, "it does not grow beyond its size");
}

#[test]
fn several_tokens_are_taken_together_or_not_at_all() {
    let mut now = Instant::now();
    let mut bucket = Bucket::new(TOKEN_EVERY, TOKENS_MAX, now);
    assert_eq!(bucket.take(TOKENS_MAX - 1, now), Ok(()));
    assert_eq!(bucket.take(2, now), Err(now + TOKEN_EVERY));
    assert_eq!(bucket.take(1, now), Ok(()), "the refused question took none");
    now += TOKEN_EVERY * 2;
    assert_eq!(bucket.take(2, now), Ok(()));
    assert_eq!(bucket.take(1, now), Err(now + TOKEN_EVERY));
}

#[test]
fn after_a_restart_nothing_is_told_that_the_api_says_already() {
    let failing = Capture::Not(NotCaptured::HostNetwork);
    for (capture, shown, expected) in [
        (CAPTURED, None, &["web Captured", "event web Captured"][..]),
        (CAPTURED, Some(("True", "Captured")), &["web Captured again"]),
        (
            CAPTURED,
            Some(("False", "HeldBack")),
            &["web Captured", "event web Captured"],
        ),
        (failing, Some(("False", "HostNetwork")), &["web HostNetwork again"]),
        (
            failing,
            Some(("False", "NoAddress")),
            &["web HostNetwork again", "event web CaptureFailed"],
        ),
        (
            failing,
            Some(("True", "HostNetwork")),
            &["web HostNetwork", "event web CaptureFailed"],
        ),
        (NO_ADDRESS, Some(("False", "NoAddress")), &["web NoAddress again"]),
        (
            NO_ADDRESS,
            Some(("True", "Captured")),
            &["web NoAddress", "event web CaptureFailed"],
        ),
    ] {
        let mut turned = Turned::new(&[POD]);
        turned.pods.get_mut(&object(POD)).unwrap().captured = shown.map(|(status, reason)| condition(status, reason));
        let applied = ack(&[(POD, capture)]);
        turned.look(&applied);
        // only the message is another than what was said before
        let mut written = turned.write_all();
        turned.show(&applied);
        for _ in 0..3 {
            turned.turn(LASTING);
            turned.look(&applied);
            written.extend(turned.write_all());
        }
        assert_eq!(written, expected, "{capture:?} {shown:?}");
    }
}

#[test]
fn a_failure_that_comes_and_goes_before_it_is_told_is_told_once_it_lasts() {
    let mut turned = Turned::new(&[POD]);
    let (failing, nobody) = (ack(&[(POD, NO_ADDRESS)]), ack(&[]));
    turned.look(&failing);
    assert_eq!(turned.write_all(), ["web NoAddress"]);
    turned.show(&failing);
    turned.look(&nobody);
    assert_eq!(turned.ledger.pending(turned.now), 0);
    turned.turn(LASTING);
    turned.look(&nobody);
    assert_eq!(turned.ledger.pending(turned.now), 0, "nobody wants it now");
    // the API says it by now, and no Event ever did
    turned.look(&failing);
    assert_eq!(turned.next(), format!("in {} s", LASTING.as_secs()));
    turned.turn(LASTING);
    turned.look(&failing);
    assert_eq!(turned.write_all(), ["event web CaptureFailed"]);
}

#[test]
fn what_was_written_is_not_repeated_until_the_watch_shows_it_or_should_have() {
    let mut turned = Turned::new(&[POD]);
    let applied = ack(&[(POD, CAPTURED)]);
    turned.look(&applied);
    assert_eq!(turned.write_all(), ["web Captured", "event web Captured"]);
    turned.turn(SHOWN_WITHIN - SECOND);
    turned.look(&applied);
    assert_eq!(turned.next(), "in 1 s");
    turned.turn(SECOND);
    turned.look(&applied);
    assert_eq!(turned.write_all(), ["web Captured"]);
    turned.show(&applied);
    turned.look(&applied);
    assert_eq!(turned.next(), "idle");
    // somebody else overwrites it
    turned
        .pods
        .get_mut(&object(POD))
        .unwrap()
        .captured
        .as_mut()
        .unwrap()
        .status = "False".into();
    turned.look(&applied);
    assert_eq!(turned.write_all(), ["web Captured"]);
}

#[test]
fn a_change_before_the_watch_shows_the_last_one_is_written_at_once() {
    let mut turned = Turned::new(&[POD]);
    let (off, on) = (ack(&[(POD, NO_ADDRESS)]), ack(&[(POD, CAPTURED)]));
    turned.look(&off);
    turned.write_all();
    turned.show(&off);
    turned.look(&on);
    assert_eq!(turned.write_all(), ["web Captured", "event web Captured"]);
    // the watch still shows the first, which is what is wanted again
    turned.look(&off);
    assert_eq!(turned.write_all(), ["web NoAddress"]);
    // another reason for the same status is no transition
    let other = ack(&[(POD, Capture::Not(NotCaptured::NoInterface))]);
    turned.look(&other);
    assert_eq!(turned.write_all(), ["web NoInterface again"]);
}

#[test]
fn a_new_pod_of_the_same_name_is_written_anew() {
    let mut turned = Turned::new(&[POD]);
    let applied = ack(&[(POD, NO_ADDRESS)]);
    turned.look(&applied);
    turned.settle(&Outcome::Gone);
    turned.look(&applied);
    assert_ne!(turned.next(), "web NoAddress");
    turned.pods.get_mut(&object(POD)).unwrap().uid = "another".into();
    turned.look(&applied);
    assert_eq!(turned.next(), "web NoAddress");
}

#[test]
fn only_failures_that_last_are_told() {
    let mut turned = Turned::new(&[POD]);
    let (failing, captured) = (ack(&[(POD, NO_ADDRESS)]), ack(&[(POD, CAPTURED)]));
    turned.look(&failing);
    assert_eq!(turned.write_all(), ["web NoAddress"]);
    turned.show(&failing);
    turned.turn(LASTING - SECOND);
    turned.look(&captured);
    assert_eq!(turned.write_all(), ["web Captured", "event web Captured"]);
    turned.show(&captured);
    turned.look(&failing);
    turned.write_all();
    turned.show(&failing);
    turned.turn(LASTING - SECOND);
    turned.look(&failing);
    assert_eq!(turned.next(), "in 1 s", "counted from the last time that it began");
    turned.turn(SECOND);
    turned.look(&failing);
    assert_eq!(turned.write_all(), ["event web CaptureFailed"]);
    turned.turn(LASTING * 100);
    turned.look(&failing);
    assert_eq!(turned.next(), "idle", "once");
}

#[test]
fn an_event_is_told_again_only_after_its_state_was_gone_for_long() {
    let mut turned = Turned::new(&[POD]);
    let (captured, nobody) = (ack(&[(POD, CAPTURED)]), ack(&[]));
    turned.look(&captured);
    assert_eq!(turned.write_all(), ["web Captured", "event web Captured"]);
    turned.show(&captured);
    for _ in 0..100 {
        turned.look(&nobody);
        turned.turn(SECOND / 100);
        turned.look(&captured);
        assert_eq!(turned.write_all(), Vec::<String>::new());
    }
    let off = ack(&[(POD, NOT_LABELLED)]);
    turned.look(&off);
    assert_eq!(turned.write_all(), ["web NotEnabled"]);
    turned.show(&off);
    turned.turn(FORGOTTEN_AFTER);
    turned.look(&off);
    turned.look(&captured);
    assert_eq!(turned.write_all(), ["web Captured", "event web Captured"]);
}

#[test]
fn what_every_node_sees_is_told_after_a_time_of_its_own() {
    let applied = aside(&[("Service", "shop/s")]);
    let mut turned = Turned::new(&[]);
    turned.look(&applied);
    assert_eq!(turned.next(), format!("in {} s", (LASTING + SPREAD_MAX).as_secs()));
    turned.ledger = Ledger::new(|| 0.0);
    turned.look(&applied);
    assert_eq!(turned.next(), format!("in {} s", LASTING.as_secs()));
    turned.turn(LASTING);
    turned.look(&applied);
    assert_eq!(turned.ledger.pending(turned.now), 1);
    turned.settle(&Outcome::Exists);
    assert_eq!(turned.next(), "idle");
}

#[test]
fn failures_pause_longer_and_longer_and_success_ends_it() {
    // the gate asks for a condition and nothing for an Event
    let gated = |pods: &[&str]| {
        let mut pods = locals(pods);
        pods.values_mut().for_each(|pod| pod.is_gated = true);
        pods
    };
    let mut turned = Turned::new(&[]);
    turned.pods = gated(&[POD]);
    let applied = ack(&[(POD, NOT_LABELLED)]);
    turned.look(&applied);
    let mut pause = PAUSE_FIRST;
    for _ in 0..10 {
        turned.settle(&failed(None));
        assert_eq!(turned.next(), format!("in {} s", pause.as_secs()));
        turned.turn(pause);
        turned.look(&applied);
        pause = (pause * 2).min(PAUSE_MAX);
    }
    turned.settle(&failed(Some(SECOND * 50)));
    assert!(turned.next().starts_with("in "));
    turned.turn(SECOND * 50);
    turned.settle(&failed(Some(SECOND * 100_000)));
    turned.turn(RETRY_AFTER_MAX);
    turned.settle(&Outcome::Written);
    turned.pods = gated(&["shop/other"]);
    turned.look(&ack(&[("shop/other", NOT_LABELLED)]));
    turned.settle(&failed(None));
    assert_eq!(turned.next(), format!("in {} s", PAUSE_FIRST.as_secs()));
}

#[test]
fn one_that_always_fails_stands_in_nobodys_way() {
    let names = ["shop/a", "shop/b", "shop/c"];
    let mut turned = Turned::new(&names);
    let applied = ack(&names.map(|name| (name, NO_ADDRESS)));
    turned.look(&applied);
    assert_eq!(turned.next(), "a NoAddress");
    turned.settle(&failed(None));
    turned.turn(PAUSE_FIRST);
    assert_eq!(turned.next(), "b NoAddress");
    turned.settle(&Outcome::Written);
    assert_eq!(turned.next(), "c NoAddress");
    turned.settle(&Outcome::Written);
    assert_eq!(turned.next(), "a NoAddress");
    turned.settle(&Outcome::Refused(trouble()));
    turned.turn(SHOWN_WITHIN);
    turned.show(&applied);
    turned.pods.get_mut(&object("shop/a")).unwrap().captured = None;
    turned.turn(REFUSED_FOR - SHOWN_WITHIN - SECOND);
    turned.look(&applied);
    assert!(
        !turned.write_all().contains(&"a NoAddress".to_owned()),
        "it is left alone for long"
    );
    turned.turn(SECOND);
    turned.look(&applied);
    assert_eq!(turned.next(), "a NoAddress");
}

#[test]
fn events_wait_for_their_own_trouble_only() {
    let mut turned = Turned::new(&[POD]);
    let on = ack(&[(POD, CAPTURED)]);
    turned.look(&on);
    turned.settle(&Outcome::Written);
    assert_eq!(turned.next(), "event web Captured");
    turned.settle(&failed(Some(SECOND * 60)));
    turned.look(&ack(&[(POD, NO_ADDRESS)]));
    assert_eq!(turned.next(), "web NoAddress");
}
