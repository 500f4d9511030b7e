//! `Maglev`: a table of slots that endpoints fill in turns, each by its own order of preference (Eisenbud et al.: Maglev: A Fast and Reliable
//! Software Network Load Balancer, NSDI 2016, 3.4). A choice is one look; shares are even to one slot, more so than on a ring; a change moves
//! few keys beside its own. Weights change how often an endpoint has a turn, as the paper suggests.

use std::sync::Arc;

use super::{
    Choice,
    consistent::{Basis, first_usable},
    hash::mix,
    random,
    schedule::Schedule,
};

/// Slots of the table, 128 KiB: a prime, so that every step visits all slots; the paper's smaller size, good for 655 endpoints of equal
/// weight with shares within 1 %. An endpoint whose share is below one slot may get none.
const SLOTS: u32 = 65_537;

/// The table.
#[derive(Debug)]
pub(in crate::proxy) struct Maglev {
    basis: Basis,
    /// The endpoint of each slot; empty without endpoints.
    slots: Vec<u16>,
}

/// Places of a table one after the other, each once in [`SLOTS`] steps.
#[derive(Clone, Copy, Debug)]
struct Walk {
    at: u32,
    step: u32,
}

impl Maglev {
    /// The table of these endpoints; the previous one if it is of the same.
    pub(super) fn shared(basis: Basis, previous: Option<&Arc<Self>>) -> Arc<Self> {
        match previous {
            Some(previous) if previous.basis == basis => Arc::clone(previous),
            _ => Arc::new(Self::new(basis)),
        }
    }

    fn new(basis: Basis) -> Self {
        let mut preferences: Vec<Walk> = basis.entries().map(|(_, seed, _)| Walk::of(seed)).collect();
        // phases from the addresses, not from the places in the list: the turns of those that stay must not shift when one comes or goes
        let mut schedule = Schedule::new(basis.entries().map(|(_, seed, weight)| (weight, high(mix(seed)))));
        let mut slots = vec![None; if preferences.is_empty() { 0 } else { place(SLOTS) }];
        for _ in 0..slots.len() {
            let turn = schedule.next(|_| true).unwrap_or_default();
            let free = preferences[turn].by_ref().find(|slot| slots[*slot].is_none());
            if let Some(slot) = free {
                slots[slot] = u16::try_from(turn).ok();
            }
        }
        Self {
            slots: slots.into_iter().flatten().collect(),
            basis,
        }
    }

    /// The key's endpoint; while that is not usable, that of the next slot in the key's own walk. A random one if there is no key.
    pub(super) fn pick(&self, choice: &mut Choice<'_>) -> Option<usize> {
        let Some(key) = choice.key else {
            return random::pick(choice, None);
        };
        // without slots the walk would look for one for ever
        let walk = Walk::of(key).take(self.slots.len());
        first_usable(choice, key, walk.filter_map(|slot| self.slots.get(slot).copied()))
    }
}

impl Walk {
    /// From the two halves of a hash, as the paper takes two hashes.
    fn of(hash: u64) -> Self {
        Self {
            at: high(hash) % SLOTS,
            step: high(hash << u32::BITS) % (SLOTS - 1) + 1,
        }
    }
}

/// Endless: who looks for a place stops when it has one.
impl Iterator for Walk {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        let at = self.at;
        self.at = (at + self.step) % SLOTS;
        Some(place(at))
    }
}

/// The upper half.
fn high(hash: u64) -> u32 {
    u32::try_from(hash >> u32::BITS).unwrap_or_default()
}

fn place(slot: u32) -> usize {
    usize::try_from(slot).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slots(weights: &[u16]) -> Vec<u32> {
        let table = Maglev::new(Basis::of_weights(weights.iter().copied()));
        let mut slots = vec![0; weights.len()];
        for owner in &table.slots {
            slots[usize::from(*owner)] += 1;
        }
        assert_eq!(slots.iter().sum::<u32>(), if weights.is_empty() { 0 } else { SLOTS });
        slots
    }

    #[test]
    fn shares_are_even_to_a_slot() {
        for weights in [
            &[1; 10][..],
            &[1; 333],
            &[7; 3],
            &[1],
            &[],
            &[1, 2, 3, 4],
            &[1000, 1, 10, 100],
        ] {
            let total: u32 = weights.iter().map(|weight| u32::from(*weight)).sum();
            for (slots, weight) in slots(weights).into_iter().zip(weights) {
                let share = f64::from(SLOTS) * f64::from(*weight) / f64::from(total);
                assert!(
                    (f64::from(slots) - share).abs() < 2.0,
                    "{slots} slots for {weight} of {total}"
                );
            }
        }
    }

    #[test]
    fn a_walk_visits_every_slot_once() {
        for hash in [0, 1, u64::MAX, mix(7)] {
            let mut seen = vec![false; place(SLOTS)];
            for slot in Walk::of(hash).take(place(SLOTS)) {
                assert!(!std::mem::replace(&mut seen[slot], true));
            }
        }
    }
}
