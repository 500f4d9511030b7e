//! `PowerOfTwoChoices`: of two random endpoints the one with less in flight. Nearly as even as asking all, at the cost of two looks, and it
//! does not herd (Mitzenmacher: The Power of Two Choices in Randomized Load Balancing, IEEE TPDS 2001).

use super::{Choice, random};

/// Of two usable endpoints the one with less in flight.
pub(super) fn pick(choice: &mut Choice<'_>) -> Option<usize> {
    let endpoints = choice.endpoints;
    cheaper(choice, |index| endpoints[index].load())
}

/// Of two distinct usable endpoints, all pairs with the same probability, the one that costs less; the only one if there is one.
pub(super) fn cheaper<C: PartialOrd>(choice: &mut Choice<'_>, cost: impl Fn(usize) -> C) -> Option<usize> {
    let first = random::pick(choice, None)?;
    let second = random::pick(choice, Some(first));
    // a tie is the first's: which of the two came first is random
    second.filter(|&second| cost(second) < cost(first)).or(Some(first))
}
