//! The part of a breaker that is read without its lock, packed into one word: choosing among a thousand endpoints must not take a thousand locks.

use std::{
    sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use super::state::{Era, Machine, Phase};

/// Bits of the word that say which of [`Look`] it is. The other 62 hold an era, a number of trials, or nanoseconds: 146 years of them.
const TAG_BITS: u32 = 2;
const TAG_MASK: u64 = (1 << TAG_BITS) - 1;
const CLEAN: u64 = 0;
const FAILING: u64 = 1;
const HALF_OPEN: u64 = 2;
const OPEN: u64 = 3;

/// What the machine was when its lock was last given up.
#[derive(Debug, Default)]
pub(super) struct Glance {
    word: AtomicU64,
    /// What `Open` counts its nanoseconds from: the first opening ever.
    origin: OnceLock<Instant>,
}

/// One look at it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Look {
    /// Closed; `clean` if no failure is counted.
    Closed { era: Era, clean: bool },
    /// Half open or open.
    Ejected(Phase),
}

impl Glance {
    /// Shows the machine as it is now. Only who holds the machine's lock may call this.
    pub(super) fn show(&self, machine: &Machine) {
        let (tag, value) = match machine.phase() {
            Phase::Closed { failures } => (if failures == 0 { CLEAN } else { FAILING }, machine.era().0),
            Phase::HalfOpen { trials, .. } => (HALF_OPEN, u64::from(trials)),
            Phase::Open { since } => {
                let after = since.saturating_duration_since(*self.origin.get_or_init(|| since));
                let nanos = u64::try_from(after.as_nanos()).unwrap_or(u64::MAX);
                (OPEN, nanos.min(u64::MAX >> TAG_BITS))
            }
        };
        // the origin was written before, and whoever reads this word must see it
        self.word.store(value << TAG_BITS | tag, Ordering::Release);
    }

    /// What was shown last.
    pub(super) fn look(&self) -> Look {
        let word = self.word.load(Ordering::Acquire);
        let value = word >> TAG_BITS;
        match (word & TAG_MASK, self.origin.get()) {
            (HALF_OPEN, _) => Look::Ejected(Phase::HalfOpen {
                trials: u32::try_from(value).unwrap_or(u32::MAX),
                successes: 0,
            }),
            (OPEN, Some(origin)) => Look::Ejected(Phase::Open {
                since: *origin + Duration::from_nanos(value),
            }),
            (tag, _) => Look::Closed {
                era: Era(value),
                clean: tag == CLEAN,
            },
        }
    }
}
