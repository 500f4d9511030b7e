//! One candidate's part in electing the writer, as a state machine that is told the time. Nodes' clocks are never compared: a holder counts from
//! before it asked for its term, a follower from when it saw that the lease was renewed, so a term has ended before another can begin.

use std::time::Duration;

use tokio::time::Instant;

/// How long a lease that is not renewed is still its holder's (`leaseDurationSeconds`; Kubernetes' own controllers have the same).
pub(super) const LEASE_DURATION: Duration = Duration::from_secs(15);
/// How often the holder renews it: one renewal may fail before the term is in danger.
pub(super) const RENEW_EVERY: Duration = Duration::from_secs(5);
/// How long the holder writes on without a renewal. A third less than [`LEASE_DURATION`]: no clock of a node runs that much slower than another's.
pub(super) const TERM: Duration = Duration::from_secs(10);
/// The share of each node in the time between two looks of one follower: all nodes together look at most 20 times a second, which is little for
/// an API server, and with so many that look one of them does soon after the lease has changed, or was let go.
pub(super) const LOOK_EVERY_PER_NODE: Duration = Duration::from_millis(50);
/// Least time between two looks of a follower: in a small cluster nobody needs to know faster than the holder renews.
pub(super) const LOOK_EVERY_MIN: Duration = Duration::from_secs(5);
/// Most: 6,000 nodes' share, beyond what Kubernetes is made for (5,000).
pub(super) const LOOK_EVERY_MAX: Duration = Duration::from_secs(300);
/// How long a new candidate waits before its share of the first looks: what it would write comes of lists that were complete when it began,
/// and they are published by then.
pub(super) const START_AFTER: Duration = Duration::from_secs(1);
/// First pause of a follower after a failed request; each further one doubles it. The holder tries again after it until its term ends.
pub(super) const PAUSE_FIRST: Duration = Duration::from_secs(1);
/// Longest pause: a namespace or right that is missing is there within that time after it was given.
pub(super) const PAUSE_MAX: Duration = Duration::from_secs(120);
/// Longest duration that a lease may ask for, so that an odd one does not keep everybody from writing.
const DURATION_MAX: Duration = Duration::from_secs(600);
/// Doublings after which the longest pause is reached in any case.
const DOUBLINGS_MAX: u32 = 16;

/// A candidate.
#[derive(Debug)]
pub(super) struct Candidate {
    me: String,
    state: State,
    /// The lease as it was seen last, in another's hands.
    known: Option<Known>,
    /// Whether the next look is the second of a pair.
    is_second: bool,
    failures: u32,
    /// From 0 to 1.
    random: fn() -> f64,
}

#[derive(Debug)]
enum State {
    Follows { look_at: Instant },
    MayTake(Step),
    Leads { until: Instant, renew_at: Instant },
}

#[derive(Debug)]
struct Known {
    holder: String,
    renewal: String,
    expires: Instant,
}

/// The lease as it is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    /// `spec.holderIdentity`; empty if nobody holds it.
    pub(super) holder: String,
    /// What a holder changes when it renews, and only compared: not `metadata.resourceVersion`, which changes too when somebody else touches the object, as by a
    /// label, and would keep the lease of one that is gone alive.
    pub(super) renewal: String,
    /// `spec.leaseDurationSeconds`.
    pub(super) duration: Duration,
}

/// What a candidate asks of the API server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Read the lease.
    Look,
    /// Create it, held by us.
    Create,
    /// Write us into it as its holder, if it is still what was seen.
    Take,
    /// The same as its holder.
    Renew,
}

/// What a candidate wants done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Ask this now.
    Ask(Step),
    /// Nothing before this time.
    At(Instant),
}

/// What the API server said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Said {
    /// To a look: the lease, if there is one.
    Seen(Option<Seen>),
    /// It is ours, or ours for longer.
    Held,
    /// It is not what was seen any more.
    Changed,
    /// Nothing that helps.
    Failed {
        /// What the API server asks for.
        retry_after: Option<Duration>,
    },
}

impl Candidate {
    /// A follower. `random` gives numbers from 0 to 1.
    pub(super) fn new(me: String, nodes: usize, random: fn() -> f64, now: Instant) -> Self {
        // a cluster whose daemons all start at once looks no faster than later, when looks may come in pairs
        let share = share(nodes).min(LOOK_EVERY_MAX);
        let spread = if share > LEASE_DURATION { share * 2 } else { share };
        let look_at = now + START_AFTER + spread.mul_f64(random());
        Self {
            me,
            state: State::Follows { look_at },
            known: None,
            is_second: false,
            failures: 0,
            random,
        }
    }

    /// Until when it may write, if it may now.
    pub(super) fn leads_until(&self, now: Instant) -> Option<Instant> {
        match self.state {
            State::Leads { until, .. } if now < until => Some(until),
            _ => None,
        }
    }

    /// Whether the last thing that was tried went well. A look at a lease that may be taken does not tell yet whether it can be.
    pub(super) fn is_well(&self) -> bool {
        self.failures == 0
    }

    /// What is to be done.
    pub(super) fn next(&mut self, now: Instant) -> Next {
        match self.state {
            State::Follows { look_at } if look_at <= now => Next::Ask(Step::Look),
            State::Follows { look_at } => Next::At(look_at),
            State::MayTake(step) => Next::Ask(step),
            State::Leads { until, .. } if until <= now => {
                // it may be another's soon: from here on we are one of many
                self.follow(now + self.pause());
                self.next(now)
            }
            State::Leads { renew_at, .. } if renew_at <= now => Next::Ask(Step::Renew),
            State::Leads { until, renew_at } => Next::At(renew_at.min(until)),
        }
    }

    /// Takes in what was said to a step that was asked at `asked`.
    pub(super) fn settle(&mut self, step: Step, said: Said, asked: Instant, nodes: usize, now: Instant) {
        match said {
            Said::Seen(seen) => self.saw(seen, nodes, now),
            Said::Held => {
                self.failures = 0;
                self.known = None;
                self.state = State::Leads {
                    until: asked + TERM,
                    renew_at: asked + RENEW_EVERY,
                };
            }
            // we held it: whether we still do must be seen before anything else is written
            Said::Changed if step == Step::Renew => self.follow(now),
            // another one was faster
            Said::Changed => self.look_again(nodes, now),
            Said::Failed { retry_after } => self.failed(retry_after.unwrap_or_default(), nodes, now),
        }
    }

    fn saw(&mut self, seen: Option<Seen>, nodes: usize, now: Instant) {
        let Some(seen) = seen else {
            self.state = State::MayTake(Step::Create);
            return;
        };
        // our own: of a term that we gave up, or of an answer that was lost
        if seen.holder.is_empty() || seen.holder == self.me {
            self.state = State::MayTake(Step::Take);
            return;
        }
        let is_same = |known: &Known| known.holder == seen.holder && known.renewal == seen.renewal;
        let known = self.known.take().filter(is_same);
        let was_known = known.is_some();
        let known = known.unwrap_or_else(|| Known {
            holder: seen.holder,
            renewal: seen.renewal,
            expires: now + seen.duration.clamp(LEASE_DURATION, DURATION_MAX),
        });
        let expires = known.expires;
        // also where it may be taken: the object may be touched before it is, and then nothing has begun anew
        self.known = Some(known);
        if expires <= now {
            self.state = State::MayTake(Step::Take);
            return;
        }
        // somebody else holds it, so all is well; what could be seen and not taken is none the better for a look
        self.failures = 0;
        self.look_again(nodes, now);
        // at most one look more for each holder that falls silent
        if let State::Follows { look_at } = &mut self.state
            && was_known
        {
            *look_at = expires.min(*look_at);
        }
    }

    /// Sets the time of the next look, at most as often as is this node's share. Where the share is rarer than leases last, looks come in
    /// pairs a lease apart: two looks at the same lease tell that its holder is gone, and in a large cluster some pair begins right after the
    /// last renewal.
    fn look_again(&mut self, nodes: usize, now: Instant) {
        let every = look_every(nodes);
        let jitter = 0.75 + (self.random)() / 2.0;
        self.is_second = every > LEASE_DURATION && !self.is_second;
        let wait = if every <= LEASE_DURATION {
            every.mul_f64(jitter)
        } else if self.is_second {
            LEASE_DURATION
        } else {
            (every * 2).mul_f64(jitter).saturating_sub(LEASE_DURATION)
        };
        self.state = State::Follows { look_at: now + wait };
    }

    fn failed(&mut self, at_least: Duration, nodes: usize, now: Instant) {
        let pause = self.pause().max(at_least.min(PAUSE_MAX));
        self.failures = self.failures.saturating_add(1);
        match &mut self.state {
            State::Leads { renew_at, .. } => *renew_at = now + PAUSE_FIRST.max(at_least),
            // never more often than without trouble
            _ => self.follow(now + pause.max(look_every(nodes).mul_f64(0.75 + (self.random)() / 2.0))),
        }
    }

    fn follow(&mut self, look_at: Instant) {
        self.known = None;
        self.is_second = false;
        self.state = State::Follows { look_at };
    }

    fn pause(&self) -> Duration {
        let longest = PAUSE_FIRST.saturating_mul(1 << self.failures.min(DOUBLINGS_MAX));
        // half of it by chance: nodes that failed together come back one by one
        longest.min(PAUSE_MAX).mul_f64(0.5 + (self.random)() / 2.0)
    }
}

/// Time between two looks of one follower in a cluster of so many nodes, on the average.
pub(super) fn look_every(nodes: usize) -> Duration {
    share(nodes).clamp(LOOK_EVERY_MIN, LOOK_EVERY_MAX)
}

fn share(nodes: usize) -> Duration {
    LOOK_EVERY_PER_NODE.saturating_mul(u32::try_from(nodes).unwrap_or(u32::MAX))
}
