//! `WeightedRoundRobin`: endpoints in turn, over all workers, each with as many turns in a round as its weight, evenly spread.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use super::{
    Choice,
    consistent::Basis,
    schedule::{self, Schedule},
};

/// The endpoints' turns.
#[derive(Debug)]
pub(in crate::proxy) struct WeightedRoundRobin {
    basis: Basis,
    /// Held for one turn, about 100 ns; nothing waits under it.
    schedule: Mutex<Schedule>,
}

impl WeightedRoundRobin {
    /// Who stays with the same weight keeps its turn; the others join where the schedule stands.
    pub(super) fn new(basis: Basis, previous: Option<&Self>) -> Self {
        let weights = basis.weights().enumerate();
        let schedule = match previous {
            None => Schedule::new(weights.map(|(rank, weight)| (weight, schedule::spread(rank)))),
            Some(previous) => {
                let earlier = previous.schedule().clone();
                let coming = earlier.coming(previous.basis.len());
                let kept: HashMap<_, _> = previous.basis.addresses().zip(coming).collect();
                let endpoints = weights.zip(basis.addresses()).map(|((rank, weight), address)| {
                    let kept = kept.get(&address).copied().flatten();
                    (weight, schedule::spread(rank), kept)
                });
                earlier.followed_by(endpoints)
            }
        };
        Self {
            schedule: Mutex::new(schedule),
            basis,
        }
    }

    /// Whose turn it is.
    pub(super) fn pick(&self, choice: &Choice<'_>) -> Option<usize> {
        self.schedule().next(choice.usable)
    }

    /// One at random, by weight, without spending a turn. Walks all: it is for retries, which are few.
    pub(super) fn draw(&self, choice: &mut Choice<'_>) -> Option<usize> {
        let mut total = 0;
        let mut chosen = None;
        for (index, weight) in self.basis.weights().enumerate() {
            if !(choice.usable)(index) {
                continue;
            }
            total += u64::from(weight);
            if choice.rng.u64(..total) < u64::from(weight) {
                chosen = Some(index);
            }
        }
        chosen
    }

    /// A panic under the lock loses turns at most.
    fn schedule(&self) -> MutexGuard<'_, Schedule> {
        self.schedule.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
