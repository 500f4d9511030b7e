//! `RoundRobin`: every usable endpoint in turn, over all workers.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use super::Choice;

/// Whose turn is next.
#[derive(Clone, Debug, Default)]
pub(in crate::proxy) struct RoundRobin {
    /// Shared with the round robin of the next snapshot, so that requests of both take turns.
    cursor: Arc<AtomicUsize>,
}

impl RoundRobin {
    /// The next usable endpoint. The turn of an unusable one lapses, for everybody: were it passed to the endpoint behind it, that one would
    /// have two turns in each round.
    pub(super) fn pick(&self, choice: &Choice<'_>) -> Option<usize> {
        let count = choice.endpoints.len();
        // with no endpoints the range is empty and the division never happens
        let turns = (0..count).map(|_| self.cursor.fetch_add(1, Ordering::Relaxed) % count);
        let in_turn = { turns }.find(|&index| (choice.usable)(index));
        // other workers may have had the turns of those that are usable
        in_turn.or_else(|| (0..count).find(|&index| (choice.usable)(index)))
    }
}
