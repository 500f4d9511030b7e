//! The rules of a breaker: a state machine with events in and transitions out. It knows no HTTP, no lock and no clock, so that each rule can be told as a
//! table of events and times.

use std::time::Instant;

use crate::model::CircuitBreaker;

/// What a breaker is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::proxy) enum State {
    /// Attempts go through; failures in a row are counted.
    Closed,
    /// A few trials go through, to find out.
    HalfOpen,
    /// Nothing goes through until the timeout is over.
    Open,
}

/// What became of an attempt that was let through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::proxy) enum Verdict {
    /// It ended, and not in one of `failureOn`.
    Success,
    /// It ended in one of `failureOn`.
    Failure,
    /// It says nothing of the endpoint: the client went away, or the attempt never reached the endpoint. A trial gives its place back.
    Neither,
}

/// A change of state, to be counted and told. The two are never equal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::proxy) struct Transition {
    /// The state before.
    pub from: State,
    /// The state now.
    pub to: State,
}

/// The stretch of time between two transitions, counted up from 0. An attempt counts only in the era that let it through: what comes late must neither
/// close nor open a breaker that has moved on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(super) struct Era(pub u64);

impl Era {
    /// None of the machine's: of an attempt that counts nowhere.
    const NOWHERE: Self = Self(u64::MAX);
}

/// What a machine remembers in each state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// `failures` in a row, counted as the attempts end.
    Closed { failures: u32 },
    /// `trials` are under way; `successes` in a row were had.
    HalfOpen { trials: u32, successes: u32 },
    /// It opened at `since`. When trials begin is told by the settings of the day, so that a shorter `timeout` helps at once.
    Open { since: Instant },
}

/// One endpoint's breaker.
#[derive(Debug)]
pub(super) struct Machine {
    phase: Phase,
    era: Era,
}

/// What [`Machine::admit`] says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Admitted {
    /// The era that the attempt counts in; none if it is not let through.
    pub era: Option<Era>,
    /// What asking changed.
    pub transition: Option<Transition>,
}

impl Default for Machine {
    fn default() -> Self {
        Self {
            phase: Phase::Closed { failures: 0 },
            era: Era::default(),
        }
    }
}

impl Machine {
    /// An attempt asks to go through. One that knows no settings does, and changes nothing: it may have been planned before there were any.
    pub(super) fn admit(&mut self, settings: Option<&CircuitBreaker>, now: Instant) -> Admitted {
        let Some(settings) = settings else {
            return Admitted {
                era: Some(Era::NOWHERE),
                transition: None,
            };
        };
        let transition = self.phase.is_due(settings, now).then(|| self.enter(Phase::ON_TRIAL));
        Admitted {
            era: self.take_place(settings).then_some(self.era),
            transition,
        }
    }

    /// An attempt of `era` ended. `may_eject` is asked only when it would open a closed breaker: one that is on trial is ejected already.
    pub(super) fn settle(
        &mut self,
        settings: Option<&CircuitBreaker>,
        era: Era,
        verdict: Verdict,
        now: Instant,
        may_eject: impl FnOnce() -> bool,
    ) -> Option<Transition> {
        // before anything else: also what goes on beyond its settings knows only its own era
        if era != self.era {
            return None;
        }
        let settings = settings?;
        let next = match &mut self.phase {
            Phase::Closed { failures } => after_attempt(failures, settings, verdict, now, may_eject),
            Phase::HalfOpen { trials, successes } => after_trial(trials, successes, settings, verdict, now),
            // nothing is let through in such an era
            Phase::Open { .. } => None,
        }?;
        Some(self.enter(next))
    }

    /// A trial of `era` ended, and nothing is known of it.
    pub(super) fn give_back(&mut self, era: Era) {
        if let (Phase::HalfOpen { trials, .. }, true) = (&mut self.phase, era == self.era) {
            *trials = trials.saturating_sub(1);
        }
    }

    /// What it remembers.
    pub(super) fn phase(&self) -> Phase {
        self.phase
    }

    /// The current era.
    pub(super) fn era(&self) -> Era {
        self.era
    }

    fn take_place(&mut self, settings: &CircuitBreaker) -> bool {
        match &mut self.phase {
            Phase::Closed { .. } => true,
            Phase::HalfOpen { trials, .. } => {
                let is_free = *trials < settings.half_open_requests;
                *trials += u32::from(is_free);
                is_free
            }
            Phase::Open { .. } => false,
        }
    }

    /// There are no settings any more: closed, and nothing counted, whatever was. What is under way still counts for nothing.
    pub(super) fn forget(&mut self) -> Option<Transition> {
        let fresh = Phase::Closed { failures: 0 };
        if self.phase == fresh {
            return None;
        }
        let transition = self.enter(fresh);
        (transition.from != transition.to).then_some(transition)
    }

    fn enter(&mut self, phase: Phase) -> Transition {
        let from = self.phase.state();
        self.phase = phase;
        self.era = Era(self.era.0.wrapping_add(1));
        Transition {
            from,
            to: phase.state(),
        }
    }
}

impl Phase {
    /// Half open, as it begins.
    const ON_TRIAL: Self = Self::HalfOpen {
        trials: 0,
        successes: 0,
    };

    /// Its state.
    pub(super) fn state(self) -> State {
        match self {
            Self::Closed { .. } => State::Closed,
            Self::HalfOpen { .. } => State::HalfOpen,
            Self::Open { .. } => State::Open,
        }
    }

    /// Whether [`Machine::admit`] would let an attempt through now.
    pub(super) fn is_usable(self, settings: &CircuitBreaker, now: Instant) -> bool {
        match self {
            Self::Closed { .. } => true,
            Self::HalfOpen { trials, .. } => trials < settings.half_open_requests,
            Self::Open { .. } => self.is_due(settings, now),
        }
    }

    /// Whether it is open and has been so for long enough.
    fn is_due(self, settings: &CircuitBreaker, now: Instant) -> bool {
        matches!(self, Self::Open { since } if now.saturating_duration_since(since) >= settings.timeout)
    }
}

/// The phase after an attempt of a closed breaker, if it is another one. While `may_eject` says no the failures stay counted, and the next one asks again.
fn after_attempt(
    failures: &mut u32,
    settings: &CircuitBreaker,
    verdict: Verdict,
    now: Instant,
    may_eject: impl FnOnce() -> bool,
) -> Option<Phase> {
    match verdict {
        Verdict::Success => *failures = 0,
        Verdict::Failure => *failures = failures.saturating_add(1),
        Verdict::Neither => return None,
    }
    let opens = verdict == Verdict::Failure && *failures >= settings.failure_threshold && may_eject();
    opens.then_some(Phase::Open { since: now })
}

/// The phase after a trial, if it is another one: one failure is enough to open again, and the timeout begins anew.
fn after_trial(
    trials: &mut u32,
    successes: &mut u32,
    settings: &CircuitBreaker,
    verdict: Verdict,
    now: Instant,
) -> Option<Phase> {
    *trials = trials.saturating_sub(1);
    match verdict {
        Verdict::Neither => None,
        Verdict::Failure => Some(Phase::Open { since: now }),
        Verdict::Success => {
            *successes = successes.saturating_add(1);
            (*successes >= settings.success_threshold).then_some(Phase::Closed { failures: 0 })
        }
    }
}
