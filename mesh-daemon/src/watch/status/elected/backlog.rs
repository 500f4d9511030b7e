//! Which status is written next, and what must wait: the elected writer's memory, as a state machine that is told the time.

use std::{collections::BTreeMap, time::Duration};

use tokio::time::Instant;

use super::{
    super::{
        exchange::Trouble,
        ledger::{PAUSE_FIRST, PAUSE_MAX, REFUSED_FOR, RETRY_AFTER_MAX, SHOWN_WITHIN},
    },
    entries::{Due, Key, Subject, Wanted},
};

/// How long our entries in an object that is of no use to us any more stay: what is published follows what is listed within a fraction of that,
/// and entries that are needed after all are not removed in between.
pub(super) const REMOVED_AFTER: Duration = Duration::from_secs(5);
/// Least time between two writes of one object: whoever changes it all the time, or fights over it, does not keep others waiting.
pub(super) const SAME_AFTER: Duration = Duration::from_secs(1);
/// First pause of an object that another writer changed between our read and our write; each further one doubles it.
pub(super) const CONFLICT_FIRST: Duration = Duration::from_millis(100);
/// Longest such pause.
pub(super) const CONFLICT_MAX: Duration = Duration::from_secs(30);
/// Doublings after which the longest pause is reached in any case.
const DOUBLINGS_MAX: u32 = 16;

/// What is due, and when.
pub(super) struct Backlog {
    items: BTreeMap<Key, Item>,
    /// When objects that were written may be written again.
    spaced: BTreeMap<Key, Instant>,
    pauses: BTreeMap<Subject, Pause>,
    last: Option<Key>,
    /// From 0 to 1.
    random: fn() -> f64,
}

struct Item {
    wanted: Wanted,
    not_before: Instant,
    /// Since when it is wanted that nothing of ours is there.
    removal_since: Option<Instant>,
    failures: u32,
    /// It was sent, and the watch has not shown it yet; or it is no use to send it.
    is_done: bool,
}

struct Pause {
    failures: u32,
    until: Instant,
}

/// What the backlog wants done.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Next {
    /// Write this.
    Write(Key, Box<Wanted>),
    /// Nothing before this time.
    At(Instant),
    /// Nothing until something changes.
    Idle,
}

/// What became of a write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The API has it.
    Written,
    /// The API had it.
    Unchanged,
    /// The object is gone, or is another one by now, or another generation.
    Gone,
    /// Another writer was faster.
    Conflict,
    /// It will not be taken however often it is sent.
    Refused(Trouble),
    /// It may be taken later.
    Failed {
        trouble: Trouble,
        /// What the API server asks for.
        retry_after: Option<Duration>,
    },
}

impl Backlog {
    /// Nothing due. `random` gives numbers from 0 to 1.
    pub(super) fn new(random: fn() -> f64) -> Self {
        Self {
            items: BTreeMap::new(),
            spaced: BTreeMap::new(),
            pauses: BTreeMap::new(),
            last: None,
            random,
        }
    }

    /// Takes in what is to be written, now.
    pub(super) fn observe(&mut self, due: Due, now: Instant) {
        self.spaced.retain(|_, until| *until > now);
        let mut before = std::mem::take(&mut self.items);
        for (key, wanted) in due {
            let item = match before.remove(&key) {
                Some(item) if item.wanted == wanted => item,
                item => self.item(&key, wanted, item.as_ref(), now),
            };
            self.items.insert(key, item);
        }
    }

    fn item(&self, key: &Key, wanted: Wanted, before: Option<&Item>, now: Instant) -> Item {
        let removal_since = wanted
            .entries
            .is_empty()
            .then(|| before.and_then(|before| before.removal_since).unwrap_or(now));
        let may_be_removed = removal_since.map(|since| since + REMOVED_AFTER);
        let spaced = self.spaced.get(key).copied();
        Item {
            wanted,
            not_before: [Some(now), may_be_removed, spaced]
                .into_iter()
                .flatten()
                .max()
                .unwrap_or(now),
            removal_since,
            failures: 0,
            is_done: false,
        }
    }

    /// How many writes wait.
    pub(super) fn pending(&self) -> usize {
        self.items.values().filter(|item| !item.is_done).count()
    }

    /// The next write, or how long there is none. What failed comes last, and the others take turns.
    pub(super) fn next(&self, now: Instant) -> Next {
        let turn = |(key, item): &(&Key, &Item)| {
            (
                item.failures,
                self.last.as_ref().is_some_and(|last| *key <= last),
                (*key).clone(),
            )
        };
        let ready = self
            .items
            .iter()
            .filter(|(key, item)| self.not_before(key, item) <= now);
        if let Some((key, item)) = ready.min_by_key(turn) {
            return Next::Write(key.clone(), Box::new(item.wanted.clone()));
        }
        let later = self.items.iter().map(|(key, item)| self.not_before(key, item)).min();
        later.map_or(Next::Idle, Next::At)
    }

    fn not_before(&self, key: &Key, item: &Item) -> Instant {
        let pause = self.pauses.get(&key.0).map(|pause| pause.until);
        pause.map_or(item.not_before, |until| until.max(item.not_before))
    }

    /// Takes in what became of a write. Returns whether nothing of its kind is in trouble any more.
    pub(super) fn settle(&mut self, key: &Key, outcome: &Outcome, now: Instant) -> bool {
        self.last = Some(key.clone());
        let random = (self.random)();
        if let Outcome::Failed { retry_after, .. } = outcome {
            self.pause(key.0, retry_after.unwrap_or_default(), now);
        } else {
            self.pauses.remove(&key.0);
        }
        if *outcome == Outcome::Written {
            self.spaced.insert(key.clone(), now + SAME_AFTER);
        }
        if let Some(item) = self.items.get_mut(key) {
            item.settle(outcome, random, now);
        }
        !self
            .items
            .iter()
            .any(|((subject, _), item)| *subject == key.0 && item.failures > 0)
    }

    fn pause(&mut self, subject: Subject, at_least: Duration, now: Instant) {
        let random = (self.random)();
        let failures = self.pauses.get(&subject).map_or(0, |pause| pause.failures);
        let longest = doubled(PAUSE_FIRST, failures, PAUSE_MAX);
        let own = longest.mul_f64(0.5 + random / 2.0);
        let pause = Pause {
            failures: failures.saturating_add(1),
            until: now + own.max(at_least.min(RETRY_AFTER_MAX)),
        };
        self.pauses.insert(subject, pause);
    }
}

impl Item {
    fn settle(&mut self, outcome: &Outcome, random: f64, now: Instant) {
        let held_for = match outcome {
            // a watch that is behind has caught up by then
            Outcome::Written | Outcome::Gone => SHOWN_WITHIN,
            Outcome::Unchanged | Outcome::Refused(_) => REFUSED_FOR,
            Outcome::Conflict => {
                let longest = doubled(CONFLICT_FIRST, self.failures, CONFLICT_MAX);
                self.failures = self.failures.saturating_add(1);
                self.not_before = now + longest.mul_f64(0.5 + random / 2.0);
                return;
            }
            Outcome::Failed { .. } => {
                self.failures = self.failures.saturating_add(1);
                return;
            }
        };
        self.failures = 0;
        self.is_done = true;
        self.not_before = now + held_for;
    }
}

impl Outcome {
    /// What is wrong, if anything is.
    pub(super) fn trouble(&self) -> Option<&Trouble> {
        match self {
            Self::Refused(trouble) | Self::Failed { trouble, .. } => Some(trouble),
            Self::Written | Self::Unchanged | Self::Gone | Self::Conflict => None,
        }
    }

    /// The metric label.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Written => "written",
            Self::Unchanged => "exists",
            Self::Gone => "gone",
            Self::Conflict => "conflict",
            Self::Refused(trouble) | Self::Failed { trouble, .. } => trouble.name,
        }
    }
}

fn doubled(first: Duration, times: u32, longest: Duration) -> Duration {
    first.saturating_mul(1 << times.min(DOUBLINGS_MAX)).min(longest)
}
