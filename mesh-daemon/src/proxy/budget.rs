//! The retry budget of one Service on this node (GEP-3388): retries ≤ max(percent of requests, floor), in every window as long as `interval`.
//!
//! *Every* window is meant: not only those that end now, but also one that begins at the first of a row of retries, when the requests that would have paid
//! for them are over. So a retry is let through only if, for each retry of the last `interval` as the begin of a window that ends now, the inequality still
//! holds; requests that come later can only help. It follows that requests pay only in windows that hold them: after a quiet hour's requests, a row of
//! retries gets the floor and no more until requests come again. With requests all the time, at most one in `floor + 1` of what `percent` promises is lost
//! to this. And a floor of 0 lets none through, since the window that begins at a retry holds nothing but it: the standard asks for a `minRetryRate` of at
//! least 1.
//!
//! The floor is `minRetryRate`, scaled to the window and rounded up, since it is a minimum: 10 in 1 s are 100 in 10 s, and 1 in 3 s are 4 in 10 s.
//! It may be had all at once.
//!
//! Let the balance be `percent × requests − 100 × retries`, both counted from the beginning. A window that begins at an earlier retry and ends now holds
//! too many if, counting the one that is asked for, the balance is lower than just before that earlier retry. So requests cost one addition, without a lock or a
//! clock, and of the retries only the balances before them are kept, in runs.

use std::{
    collections::VecDeque,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use crate::model::RetryBudget;

#[cfg(test)]
mod tests;

/// Retries next to each other are remembered as one run of at most this part of the interval, or of the floor. What that costs: with no requests, the
/// floor is had once in 33/32 of an interval; and what exceeds 31/32 of it may have to be paid for by requests.
const RESOLUTION: u32 = 32;
/// Runs that are remembered, 64 bytes each. Of those beyond the floor any two neighbours span more than a part of the interval, and 33 parts are remembered;
/// of the others each is full, or spans a part with its neighbour. Only settings that change to and fro can need more: then the oldest are taken for one.
const RUNS_MAX: usize = 2 * 33 + 32 + 33 + 2;

/// The budget of one Service on this node.
#[derive(Debug, Default)]
pub(super) struct Budget {
    requests: AtomicU64,
    retries: Mutex<Retries>,
}

/// What is remembered of retries that were let through.
#[derive(Debug, Default)]
struct Retries {
    count: u64,
    /// The oldest first; none of them is older than an interval.
    runs: VecDeque<Run>,
}

/// Retries next to each other.
#[derive(Clone, Copy, Debug)]
struct Run {
    first: Instant,
    last: Instant,
    retries: u64,
    /// Just before that one of them whose window is the hardest to pay for.
    before: Counts,
}

/// What there had been since the beginning.
#[derive(Clone, Copy, Debug)]
struct Counts {
    requests: u64,
    retries: u64,
}

impl Budget {
    /// A request was addressed to the Service: its first try, that is; retries are no requests.
    pub(super) fn request(&self) {
        self.requests.fetch_add(1, Ordering::Relaxed);
    }

    /// Whether one more retry is let through; if so it is counted. Where the settings change, what was is measured by the new ones.
    pub(super) fn try_retry(&self, settings: &RetryBudget, now: Instant) -> bool {
        let (mut retries, before) = self.look(settings, now);
        let is_paid = retries.would_be_paid(settings, before);
        if is_paid {
            retries.add(settings, Run::of_one(before, now));
        }
        is_paid
    }

    /// Whether [`Budget::try_retry`] would let one through now; another may be faster.
    pub(super) fn has_room(&self, settings: &RetryBudget, now: Instant) -> bool {
        let (retries, before) = self.look(settings, now);
        retries.would_be_paid(settings, before)
    }

    /// What is still remembered, and what there has been until now.
    fn look(&self, settings: &RetryBudget, now: Instant) -> (MutexGuard<'_, Retries>, Counts) {
        let mut retries = self.retries.lock().unwrap_or_else(PoisonError::into_inner);
        retries.expire(settings, now);
        let before = Counts {
            requests: self.requests.load(Ordering::Relaxed),
            retries: retries.count,
        };
        (retries, before)
    }
}

impl Retries {
    fn expire(&mut self, settings: &RetryBudget, now: Instant) {
        let is_over = |run: &Run| now.saturating_duration_since(run.last) > settings.interval;
        while self.runs.front().is_some_and(is_over) {
            self.runs.pop_front();
        }
    }

    /// Whether every window that begins at a remembered retry and ends now could hold one more.
    fn would_be_paid(&self, settings: &RetryBudget, before: Counts) -> bool {
        let floor = floor(settings);
        let after = before.balance(settings) - RETRY;
        let beyond = self.runs.iter().take(self.beyond(floor));
        floor > 0 && beyond.map(|run| run.before.balance(settings)).all(|then| after >= then)
    }

    /// How many runs, the oldest first, are not wholly among the last `floor` retries, the one that is asked for included. Windows that begin in the others
    /// hold no more than `floor`. A run that is beyond stays so, since retries are added at the other end only.
    fn beyond(&self, floor: u64) -> usize {
        let mut held = 1;
        let is_among = |run: &&Run| {
            held += run.retries;
            held <= floor
        };
        self.runs.len() - self.runs.iter().rev().take_while(is_among).count()
    }

    fn add(&mut self, settings: &RetryBudget, run: Run) {
        let floor = floor(settings);
        let span_max = settings.interval / RESOLUTION;
        let retries_max = floor.div_ceil(u64::from(RESOLUTION));
        self.count += run.retries;
        self.runs.push_back(run);
        let newest = self.runs.len() - 1;
        self.join(newest, settings, |older, both| {
            older.retries < retries_max && both.span() <= span_max
        });
        // each retry moves one run at most beyond the floor, where only its time matters
        let newest_beyond = self.beyond(floor).saturating_sub(1);
        self.join(newest_beyond, settings, |_, both| both.span() <= span_max);
        while self.runs.len() > RUNS_MAX {
            self.join(1, settings, |_, _| true);
        }
    }

    /// Makes one of a run and the older one next to it, if there is one and `may` says so.
    fn join(&mut self, index: usize, settings: &RetryBudget, may: impl FnOnce(&Run, &Run) -> bool) {
        let Some((older, run)) = index
            .checked_sub(1)
            .and_then(|older| Some((self.runs.get(older)?, self.runs.get(index)?)))
        else {
            return;
        };
        let both = older.with(run, settings);
        if may(older, &both) {
            self.runs.remove(index);
            self.runs[index - 1] = both;
        }
    }
}

impl Run {
    fn of_one(before: Counts, now: Instant) -> Self {
        Self {
            first: now,
            last: now,
            retries: 1,
            before,
        }
    }

    fn with(&self, newer: &Self, settings: &RetryBudget) -> Self {
        let is_harder = newer.before.balance(settings) > self.before.balance(settings);
        Self {
            first: self.first.min(newer.first),
            last: self.last.max(newer.last),
            retries: self.retries + newer.retries,
            before: if is_harder { newer.before } else { self.before },
        }
    }

    fn span(&self) -> Duration {
        self.last.saturating_duration_since(self.first)
    }
}

/// What a retry costs; a request brings `percent` of it.
const RETRY: i128 = 100;

impl Counts {
    fn balance(self, settings: &RetryBudget) -> i128 {
        i128::from(settings.percent) * i128::from(self.requests) - RETRY * i128::from(self.retries)
    }
}

/// Retries that need no requests, in a window as long as `interval`.
fn floor(settings: &RetryBudget) -> u64 {
    // the border lets no rate through that is zero long; a division by it would end the worker
    let per_rate = settings.min_retry_interval.as_nanos().max(1);
    let floor = (u128::from(settings.min_retry_count) * settings.interval.as_nanos()).div_ceil(per_rate);
    u64::try_from(floor).unwrap_or(u64::MAX)
}
