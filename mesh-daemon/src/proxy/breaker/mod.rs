//! One endpoint's circuit breaker on this node, shared by all workers: [`state`] has the rules, this gives them a lock, and [`glance`] a look without it.
//!
//! Left to the caller: what counts as a failure (`failureOn`), which endpoints are asked at all, panic mode (`whenAllOpen`; an attempt that goes to an open
//! endpoint in panic has no [`Admission`], and nothing is told of it), and the metrics. Those are `weft_circuit_breaker_state`, from [`Breaker::state`],
//! and `weft_ejections_total`, one for each [`Transition`] to [`State::Open`], with the class of the failure that caused it as reason. Transitions come out
//! in three places: [`Admission::transition`] (open to half open), [`Breaker::settle`], and [`Breaker::forget`] (to closed, where the policy is gone).

mod glance;
mod state;
#[cfg(test)]
mod tests;

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use crate::model::CircuitBreaker;
use glance::{Glance, Look};
use state::{Era, Machine, Phase};
pub(super) use state::{State, Transition, Verdict};

/// One endpoint's breaker; closed at first. Under concurrency at most `failureThreshold` attempts fail, and those that were in flight when the last of them did.
#[derive(Debug, Default)]
pub(super) struct Breaker {
    core: Arc<Core>,
}

#[derive(Debug, Default)]
struct Core {
    machine: Mutex<Machine>,
    glance: Glance,
}

/// Proof that one attempt was let through. Dropped unsettled it counts as [`Verdict::Neither`]. It is settled as soon as the end is known, for an answer at its
/// head: a trial holds its place until then, and an endless stream would keep others out.
#[derive(Debug)]
#[must_use = "a trial's place is held until this is settled or dropped"]
pub(super) struct Admission {
    era: Era,
    transition: Option<Transition>,
    /// Where a trial's place is given back.
    place: Option<Arc<Core>>,
}

/// A breaker as people see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct View {
    /// Stays [`State::Open`] after the timeout, until an attempt asks.
    pub state: State,
    /// Failures in a row, while closed.
    pub failures: u32,
    /// Successful trials in a row, while half open.
    pub successes: u32,
    /// For how long it has been open.
    pub open: Option<Duration>,
}

impl Breaker {
    /// Whether an attempt would be let through now. Takes no lock; another attempt may be faster.
    pub(super) fn is_usable(&self, settings: Option<&CircuitBreaker>, now: Instant) -> bool {
        match (settings, self.core.glance.look()) {
            (None, _) | (_, Look::Closed { .. }) => true,
            (Some(settings), Look::Ejected(phase)) => phase.is_usable(settings, now),
        }
    }

    /// Lets an attempt through, or not: the race for the last place of a half-open breaker is decided here. Takes the lock only where it is not closed.
    pub(super) fn admit(&self, settings: Option<&CircuitBreaker>, now: Instant) -> Option<Admission> {
        if let Look::Closed { era, .. } = self.core.glance.look() {
            return Some(Admission {
                era,
                transition: None,
                place: None,
            });
        }
        if !self.is_usable(settings, now) {
            return None;
        }
        self.core.with(|machine| {
            let admitted = machine.admit(settings, now);
            let is_trial = settings.is_some() && machine.phase().state() == State::HalfOpen;
            admitted.era.map(|era| Admission {
                era,
                transition: admitted.transition,
                place: is_trial.then(|| Arc::clone(&self.core)),
            })
        })
    }

    /// What became of an attempt. A late one, let through before the last transition, changes nothing. Takes no lock for a success while no failure is counted.
    ///
    /// `may_eject` is asked once before a closed breaker opens, under this breaker's lock: it may use [`Breaker::state`] of any breaker, but no method that
    /// locks this one. False keeps it closed, and the next failure asks again. Two breakers that open at the same moment do not see each other; where
    /// `maxEjectionPercent` must hold exactly, the caller has one lock for each Service around the settling of failures.
    pub(super) fn settle(
        &self,
        settings: Option<&CircuitBreaker>,
        mut admission: Admission,
        verdict: Verdict,
        now: Instant,
        may_eject: impl FnOnce() -> bool,
    ) -> Option<Transition> {
        // who knows no settings counts nothing, and gives back what it has by its end
        settings?;
        admission.place = None;
        let is_news = verdict == Verdict::Failure;
        if !is_news && matches!(self.core.glance.look(), Look::Closed { clean: true, .. }) {
            return None;
        }
        self.core
            .with(|machine| machine.settle(settings, admission.era, verdict, now, may_eject))
    }

    /// Nobody asks for it any more: closed, and nothing counted.
    pub(super) fn forget(&self) -> Option<Transition> {
        match self.core.glance.look() {
            Look::Closed { clean: true, .. } => None,
            _ => self.core.with(Machine::forget),
        }
    }

    /// Its state. Takes no lock. An endpoint is ejected while this is not [`State::Closed`].
    pub(super) fn state(&self) -> State {
        match self.core.glance.look() {
            Look::Closed { .. } => State::Closed,
            Look::Ejected(phase) => phase.state(),
        }
    }

    /// What people are shown.
    pub(super) fn view(&self, now: Instant) -> View {
        let phase = self.core.lock().phase();
        let mut view = View {
            state: phase.state(),
            failures: 0,
            successes: 0,
            open: None,
        };
        match phase {
            Phase::Closed { failures } => view.failures = failures,
            Phase::HalfOpen { successes, .. } => view.successes = successes,
            Phase::Open { since } => view.open = Some(now.saturating_duration_since(since)),
        }
        view
    }
}

impl Core {
    fn lock(&self) -> MutexGuard<'_, Machine> {
        // the machine's methods leave it whole wherever they end
        self.machine.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has something happen to the machine, and shows what came of it.
    fn with<T>(&self, event: impl FnOnce(&mut Machine) -> T) -> T {
        let mut machine = self.lock();
        let said = event(&mut machine);
        self.glance.show(&machine);
        said
    }
}

impl Admission {
    /// Whether it is one of the few that are let through to see whether the endpoint is well again.
    pub(super) fn is_trial(&self) -> bool {
        self.place.is_some()
    }

    /// What letting it through changed.
    pub(super) fn transition(&self) -> Option<Transition> {
        self.transition
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        if let Some(core) = self.place.take() {
            core.with(|machine| machine.give_back(self.era));
        }
    }
}

impl State {
    /// The word for people and metric labels.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::HalfOpen => "half_open",
            Self::Open => "open",
        }
    }

    /// The value of `weft_circuit_breaker_state`: 0 closed, 1 half open, 2 open. The more it is, the less goes through, so that a maximum over endpoints or
    /// nodes means something.
    pub(super) fn metric(self) -> i64 {
        match self {
            Self::Closed => 0,
            Self::HalfOpen => 1,
            Self::Open => 2,
        }
    }
}

impl View {
    /// Until trials are let through; zero once they are, none while it is not open.
    pub(super) fn open_for(self, settings: &CircuitBreaker) -> Option<Duration> {
        self.open.map(|open| settings.timeout.saturating_sub(open))
    }
}

/// Whether one more of `total` endpoints may be ejected while `ejected` are, with a `maxEjectionPercent` of `percent`: the first one always may.
pub(super) fn may_eject(percent: u8, ejected: usize, total: usize) -> bool {
    ejected == 0 || ejected.saturating_add(1).saturating_mul(100) <= usize::from(percent).saturating_mul(total)
}
