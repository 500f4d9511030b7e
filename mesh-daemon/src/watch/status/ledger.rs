//! What is written, what is due and what must wait: the writer's memory, as a state machine that is told the time.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use tokio::time::Instant;

use super::{
    super::local::Condition,
    desired::{Desired, Notice, Wait, Wanted},
    write::{Object, Outcome, Write},
};
use crate::ids::ObjectRef;

/// How long a condition that was written counts as what the API says until the watch shows it: a watch that is behind, or was restarted,
/// has caught up by then.
pub(super) const SHOWN_WITHIN: Duration = Duration::from_secs(30);
/// How long a state must last before an Event tells it: pods start within seconds, and pass through most of these states.
pub(super) const LASTING: Duration = Duration::from_secs(10);
/// Most random time that a node waits before it tells about an object that every node sees: those that tell it do not meet, and what all
/// of them have to tell after a change does not reach the API server at once.
pub(super) const SPREAD_MAX: Duration = Duration::from_secs(10);
/// How long a told Event stays told after its state has passed: who labels to and fro does not fill the API server's store.
pub(super) const FORGOTTEN_AFTER: Duration = Duration::from_secs(60);
/// Pause after the first failed write; each further one doubles it.
pub(super) const PAUSE_FIRST: Duration = Duration::from_secs(1);
/// Longest pause after failed writes: what people wait for once the trouble is over.
pub(super) const PAUSE_MAX: Duration = Duration::from_secs(30);
/// Most that the API server can ask us to wait, so that an odd answer does not silence a node for hours.
pub(super) const RETRY_AFTER_MAX: Duration = Duration::from_secs(120);
/// How long a write that the API server will never take is left alone: the object may be another by then.
pub(super) const REFUSED_FOR: Duration = Duration::from_secs(600);

/// What is written, what is due.
pub(super) struct Ledger {
    desired: Desired,
    written: BTreeMap<ObjectRef, Written>,
    told: BTreeMap<ObjectRef, Told>,
    /// Failed attempts of what is due.
    failures: BTreeMap<Key, u32>,
    pauses: BTreeMap<Object, Pause>,
    last: Option<Key>,
    /// From 0 to 1.
    random: fn() -> f64,
}

/// What the ledger wants done.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Next {
    /// Write this.
    Write(Box<Write>),
    /// Nothing before this time.
    At(Instant),
    /// Nothing until something changes.
    Idle,
}

/// What a write is about. Conditions come first: people and readiness gates wait for them.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Key {
    Condition(ObjectRef),
    Event(ObjectRef),
}

/// A condition that was written, and stands for what the API says until the watch shows it.
struct Written {
    uid: String,
    condition: Condition,
    until: Instant,
}

/// An Event that is wanted, or was within [`FORGOTTEN_AFTER`].
struct Told {
    due: Instant,
    /// It was sent, or is no news.
    is_done: bool,
    is_wanted: bool,
    wanted_last: Instant,
}

#[derive(Default)]
struct Pause {
    failures: u32,
    until: Option<Instant>,
}

impl Ledger {
    /// Nothing written yet. `random` gives numbers from 0 to 1.
    pub(super) fn new(random: fn() -> f64) -> Self {
        Self {
            desired: Desired::default(),
            written: BTreeMap::new(),
            told: BTreeMap::new(),
            failures: BTreeMap::new(),
            pauses: BTreeMap::new(),
            last: None,
            random,
        }
    }

    /// Takes in what the API should say, and shows, now.
    pub(super) fn observe(&mut self, desired: Desired, now: Instant) {
        self.written.retain(|pod, written| {
            let is_known = desired
                .conditions
                .get(pod)
                .is_some_and(|wanted| wanted.uid != written.uid || wanted.shown.as_ref() == Some(&written.condition));
            !is_known && now < written.until
        });
        self.desired = desired;
        self.observe_notices(now);
        let due: BTreeSet<_> = self.due(now).collect();
        self.failures.retain(|key, _| due.contains(key));
    }

    fn observe_notices(&mut self, now: Instant) {
        for (name, notice) in &self.desired.notices {
            // after a restart, what an earlier daemon wrote and told
            let is_said = self.is_said(notice);
            let told = self.told.entry(name.clone()).or_insert_with(|| Told {
                due: now,
                is_done: is_said,
                is_wanted: false,
                wanted_last: now,
            });
            // it lasts from when it last began
            if !told.is_wanted {
                told.due = now + wait(notice.wait, self.random);
            }
            told.is_wanted = true;
            told.wanted_last = now;
        }
        self.told.retain(|name, told| {
            told.is_wanted = self.desired.notices.contains_key(name);
            told.is_wanted || now < told.wanted_last + FORGOTTEN_AFTER
        });
    }

    /// Whether the API says it already, as a pod's condition with this status and reason.
    fn is_said(&self, notice: &Notice) -> bool {
        let pod = notice.condition_of.as_ref();
        pod.and_then(|pod| Some((pod, self.desired.conditions.get(pod)?)))
            .is_some_and(|(pod, wanted)| {
                let known = self.known(pod, wanted);
                known.is_some_and(|known| {
                    known.status == wanted.condition.status && known.reason == wanted.condition.reason
                })
            })
    }

    /// How many writes are due.
    pub(super) fn pending(&self, now: Instant) -> usize {
        self.due(now).count()
    }

    /// The next write, or how long there is none. What failed comes last of its kind, and the others take turns.
    pub(super) fn next(&self, now: Instant) -> Next {
        let is_free = |key: &Key| self.paused_until(key.object(), now).is_none();
        let turn = |key: &Key| {
            let failures = self.failures.get(key).copied().unwrap_or_default();
            (
                key.object(),
                failures,
                self.last.as_ref().is_some_and(|last| key <= last),
                key.clone(),
            )
        };
        if let Some(write) = self
            .due(now)
            .filter(is_free)
            .min_by_key(turn)
            .and_then(|key| self.write(&key))
        {
            return Next::Write(Box::new(write));
        }
        let pauses = self.due(now).filter_map(|key| self.paused_until(key.object(), now));
        let is_waiting = |told: &&Told| told.is_wanted && !told.is_done;
        let lasting = self.told.values().filter(is_waiting).map(|told| told.due);
        let shown = self.written.values().map(|written| written.until);
        let later = pauses.chain(lasting.chain(shown).filter(|at| *at > now)).min();
        later.map_or(Next::Idle, Next::At)
    }

    /// Takes in what became of a write. Returns whether nothing of its kind is in trouble any more.
    pub(super) fn settle(&mut self, write: &Write, outcome: &Outcome, now: Instant) -> bool {
        let key = write.key();
        let object = key.object();
        self.last = Some(key.clone());
        let holds_for = match outcome {
            Outcome::Written | Outcome::Exists | Outcome::Gone => SHOWN_WITHIN,
            Outcome::Refused(_) => REFUSED_FOR,
            Outcome::Failed { retry_after, .. } => {
                *self.failures.entry(key).or_default() += 1;
                self.pause(object, retry_after.unwrap_or_default(), now);
                return false;
            }
        };
        self.pauses.remove(&object);
        self.failures.remove(&key);
        match write {
            Write::Condition {
                pod, uid, condition, ..
            } => {
                let written = Written {
                    uid: uid.clone(),
                    condition: condition.clone(),
                    until: now + holds_for,
                };
                self.written.insert(pod.clone(), written);
            }
            Write::Event { name, .. } => {
                if let Some(told) = self.told.get_mut(name) {
                    told.is_done = true;
                }
            }
        }
        !self.failures.keys().any(|key| key.object() == object)
    }

    fn due(&self, now: Instant) -> impl Iterator<Item = Key> {
        let is_due = |(pod, wanted): &(&ObjectRef, &Wanted)| self.known(pod, wanted) != Some(&wanted.condition);
        let conditions = self.desired.conditions.iter().filter(is_due);
        let is_told = move |told: &Told| told.is_done || now < told.due;
        let events = self
            .desired
            .notices
            .keys()
            .filter(move |name| !self.told.get(*name).is_none_or(is_told));
        let conditions = conditions.map(|(pod, _)| Key::Condition(pod.clone()));
        conditions.chain(events.map(|name| Key::Event(name.clone())))
    }

    fn write(&self, key: &Key) -> Option<Write> {
        match key {
            Key::Condition(pod) => self.desired.conditions.get(pod).map(|wanted| Write::Condition {
                pod: pod.clone(),
                uid: wanted.uid.clone(),
                condition: wanted.condition.clone(),
                is_transition: self
                    .known(pod, wanted)
                    .is_none_or(|known| known.status != wanted.condition.status),
            }),
            Key::Event(name) => {
                let notice: &Notice = self.desired.notices.get(name)?;
                Some(Write::Event {
                    name: name.clone(),
                    notice: notice.clone(),
                })
            }
        }
    }

    /// What the API says, as far as we know: what was written, until the watch shows it.
    fn known<'a>(&'a self, pod: &ObjectRef, wanted: &'a Wanted) -> Option<&'a Condition> {
        let written = self.written.get(pod).filter(|written| written.uid == wanted.uid);
        written.map(|written| &written.condition).or(wanted.shown.as_ref())
    }

    fn pause(&mut self, object: Object, at_least: Duration, now: Instant) {
        let random = (self.random)();
        let pause = self.pauses.entry(object).or_default();
        let longest = (PAUSE_FIRST * 2_u32.saturating_pow(pause.failures)).min(PAUSE_MAX);
        pause.failures = pause.failures.saturating_add(1);
        // half of it by chance: nodes that failed together come back one by one
        let own = longest.mul_f64(0.5 + random / 2.0);
        pause.until = Some(now + own.max(at_least.min(RETRY_AFTER_MAX)));
    }

    fn paused_until(&self, object: Object, now: Instant) -> Option<Instant> {
        self.pauses
            .get(&object)
            .and_then(|pause| pause.until)
            .filter(|until| *until > now)
    }
}

impl Key {
    /// What kind of object it is.
    pub(super) fn object(&self) -> Object {
        match self {
            Self::Condition(_) => Object::Condition,
            Self::Event(_) => Object::Event,
        }
    }
}

fn wait(wait: Wait, random: fn() -> f64) -> Duration {
    match wait {
        Wait::None => Duration::ZERO,
        Wait::Lasting => LASTING,
        Wait::Spread => LASTING + SPREAD_MAX.mul_f64(random()),
    }
}
