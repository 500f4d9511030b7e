//! `Random`: each usable endpoint with the same probability. Also what other algorithms sample by.

use super::Choice;

/// Draws that may meet an unusable endpoint before all are looked at: with half of them usable 1 in 256 picks does, with nearly none the walk
/// is as cheap as drawing on.
const DRAWS: usize = 8;

/// One usable endpoint but for `except`, all with the same probability; none if there is none.
pub(super) fn pick(choice: &mut Choice<'_>, except: Option<usize>) -> Option<usize> {
    let count = choice.endpoints.len();
    if count == 0 {
        return None;
    }
    let may = |index| Some(index) != except && (choice.usable)(index);
    let drawn = (0..DRAWS).map(|_| choice.rng.usize(..count)).find(|&index| may(index));
    drawn.or_else(|| of((0..count).filter(|&index| may(index)), choice.rng))
}

/// One of them, all with the same probability, in one walk: the n-th replaces the one before with 1/n (Vitter's reservoir of one).
pub(super) fn of(indices: impl Iterator<Item = usize>, rng: &mut fastrand::Rng) -> Option<usize> {
    let mut chosen = None;
    for (seen, index) in indices.enumerate() {
        if rng.usize(..=seen) == 0 {
            chosen = Some(index);
        }
    }
    chosen
}
