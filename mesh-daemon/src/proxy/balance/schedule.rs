//! Turns by weight, evenly spread: an endpoint of weight w has w turns in each round, 1/w of a round apart. Exact: times are fractions.

use std::{
    cmp::{Ordering, Reverse},
    collections::{BinaryHeap, binary_heap::PeekMut},
};

/// One interval between two turns, in the units of a [`Moment`]'s part: 32 bits, so that a phase is a `u32`.
const INTERVAL_BITS: u32 = u32::BITS;
/// 2³² divided by the golden ratio.
const GOLDEN: u32 = 0x9e37_79b9;

/// Turns in a row that lapse before it is asked whether anybody is usable at all: a turn costs ten times what asking does, and a Service that
/// is down as a whole must not cost the most.
const LAPSED_UNSEEN: usize = 32;

/// Whose turn is when. A turn costs O(log n).
#[derive(Clone, Debug, Default)]
pub(super) struct Schedule {
    turns: BinaryHeap<Reverse<Turn>>,
    /// When the last turn was.
    now: Moment,
}

/// The next turn of one endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Turn {
    at: Moment,
    index: usize,
    /// Where in its intervals its turns are.
    phase: u32,
}

/// A time in rounds: `round + part / (weight << 32)`, where `part < weight << 32`. A weight has 16 bits, so that comparing does not overflow.
#[derive(Clone, Copy, Debug)]
struct Moment {
    round: u64,
    part: u64,
    weight: u16,
}

impl Schedule {
    /// From each endpoint's weight, above 0, and the phase of its turns, in the order of the endpoints.
    pub(super) fn new(endpoints: impl Iterator<Item = (u16, u32)>) -> Self {
        Self::default().followed_by(endpoints.map(|(weight, phase)| (weight, phase, None)))
    }

    /// The schedule of other endpoints that goes on where this one stands. Who had a turn coming here, with the same weight, keeps it.
    pub(super) fn followed_by(&self, endpoints: impl Iterator<Item = (u16, u32, Option<Turn>)>) -> Self {
        let turns = endpoints.enumerate().map(|(index, (weight, phase, kept))| {
            let kept = kept.filter(|turn| turn.at.weight == weight);
            let at = || Moment::not_before(self.now, weight, phase);
            Reverse(kept.map_or_else(|| Turn { at: at(), index, phase }, |turn| Turn { index, ..turn }))
        });
        Self {
            turns: turns.collect(),
            now: self.now,
        }
    }

    /// The coming turn of each of `count` endpoints.
    pub(super) fn coming(&self, count: usize) -> Vec<Option<Turn>> {
        let mut coming = vec![None; count];
        for Reverse(turn) in &self.turns {
            if let Some(place) = coming.get_mut(turn.index) {
                *place = Some(*turn);
            }
        }
        coming
    }

    /// The next usable endpoint. The turns that unusable ones had until then lapse: who comes back later has none to catch up on, and the
    /// order of the others is what it would be without them.
    pub(super) fn next(&mut self, usable: impl Fn(usize) -> bool) -> Option<usize> {
        let count = self.turns.len();
        let mut lapsed = Vec::new();
        let chosen = loop {
            let Some(mut first) = self.turns.peek_mut() else {
                break None;
            };
            let turn = first.0;
            self.now = turn.at;
            if usable(turn.index) {
                first.0.at = turn.at.next();
                break Some(turn.index);
            }
            PeekMut::pop(first);
            lapsed.push(turn);
            if lapsed.len() == LAPSED_UNSEEN && !(0..count).any(&usable) {
                break None;
            }
        };
        let now = self.now;
        let turns = lapsed.into_iter().map(|turn| Reverse(turn.after(now)));
        self.turns.extend(turns);
        chosen
    }
}

impl Turn {
    /// The same endpoint's first turn after this one that is not before `now`.
    fn after(self, now: Moment) -> Self {
        let at = Moment::not_before(now, self.at.weight, self.phase);
        let at = if at > self.at { at } else { self.at.next() };
        Self { at, ..self }
    }
}

impl Moment {
    /// The first time not before `now` at which an endpoint of this weight and phase has a turn.
    fn not_before(now: Self, weight: u16, phase: u32) -> Self {
        let position = (now.part * u64::from(weight)).div_ceil(u64::from(now.weight));
        let intervals = position.saturating_sub(u64::from(phase)).div_ceil(1 << INTERVAL_BITS);
        Self {
            round: now.round,
            part: (intervals << INTERVAL_BITS) + u64::from(phase),
            weight,
        }
        .carried()
    }

    /// One interval later.
    fn next(self) -> Self {
        Self {
            part: self.part + (1 << INTERVAL_BITS),
            ..self
        }
        .carried()
    }

    fn carried(self) -> Self {
        let round = u64::from(self.weight) << INTERVAL_BITS;
        if self.part < round {
            return self;
        }
        Self {
            round: self.round + 1,
            part: self.part - round,
            ..self
        }
    }
}

impl Default for Moment {
    fn default() -> Self {
        Self {
            round: 0,
            part: 0,
            weight: 1,
        }
    }
}

impl Ord for Moment {
    fn cmp(&self, other: &Self) -> Ordering {
        let parts = || (self.part * u64::from(other.weight)).cmp(&(other.part * u64::from(self.weight)));
        self.round.cmp(&other.round).then_with(parts)
    }
}

impl PartialOrd for Moment {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Moment {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Moment {}

/// The phase of the `rank`-th endpoint: those of any number of neighbours lie evenly spread (Weyl's sequence of the golden ratio). Were all
/// the same, endpoints of weight 1 would have their turns in one row, and a heavy one none meanwhile.
pub(super) fn spread(rank: usize) -> u32 {
    u32::try_from(rank).unwrap_or(u32::MAX).wrapping_mul(GOLDEN)
}
