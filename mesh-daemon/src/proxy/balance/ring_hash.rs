//! `RingHash`: endpoints have points on a ring of hashes, and a key goes to the point that follows its own hash, as libketama does it (Karger
//! et al.: Consistent Hashing and Random Trees, STOC 1997). An endpoint that comes or goes moves its own keys and no others.

use std::sync::Arc;

use super::{
    Choice,
    consistent::{Basis, ENDPOINTS_MAX, first_usable},
    hash::{GOLDEN, mix},
    random,
};

/// Points of an endpoint for each unit of its weight, as libketama has it: shares deviate by 1/√160, 8 %.
const POINTS_PER_WEIGHT: u64 = 160;
/// Points of the whole ring: 640 KiB, which 409 endpoints of weight 1 fill. Above it every endpoint's points are
/// halved until they fit, down to one each: shares become coarser, and the one change that crosses the bound moves more keys than its own.
const POINTS_MAX: u64 = 65_536;

/// The ring: points in the order of their hashes.
#[derive(Debug)]
pub(in crate::proxy) struct Ring {
    basis: Basis,
    points: Vec<u64>,
    /// Whose point it is.
    owners: Vec<u16>,
}

impl Ring {
    /// The ring of these endpoints; the previous one if it is of the same.
    pub(super) fn shared(basis: Basis, previous: Option<&Arc<Self>>) -> Arc<Self> {
        match previous {
            Some(previous) if previous.basis == basis => Arc::clone(previous),
            _ => Arc::new(Self::new(basis)),
        }
    }

    fn new(basis: Basis) -> Self {
        let halvings = halvings(&basis);
        let mut ring: Vec<(u64, u16)> = basis
            .entries()
            .flat_map(|(number, seed, weight)| {
                // the first of a sequence that does not depend on the number: halving leaves the rest where they are
                (1..=points(weight, halvings))
                    .map(move |step| (mix(seed.wrapping_add(GOLDEN.wrapping_mul(step))), number))
            })
            .collect();
        ring.sort_unstable();
        Self {
            points: ring.iter().map(|(point, _)| *point).collect(),
            owners: ring.iter().map(|(_, owner)| *owner).collect(),
            basis,
        }
    }

    /// The key's endpoint; while that is not usable, the next on the ring. A random one if there is no key.
    pub(super) fn pick(&self, choice: &mut Choice<'_>) -> Option<usize> {
        let Some(key) = choice.key else {
            return random::pick(choice, None);
        };
        let start = self.points.partition_point(|point| *point < key);
        let (before, from) = self.owners.split_at(start);
        first_usable(choice, key, from.iter().chain(before).copied())
    }
}

fn points(weight: u16, halvings: u32) -> u64 {
    (POINTS_PER_WEIGHT * u64::from(weight)).div_ceil(1 << halvings)
}

/// How often all points are halved: by whole halvings, because any finer measure would move keys of everybody with each change.
fn halvings(basis: &Basis) -> u32 {
    let total = |halvings| -> u64 {
        basis
            .weights()
            .take(ENDPOINTS_MAX)
            .map(|weight| points(weight, halvings))
            .sum()
    };
    let enough = u64::BITS - (POINTS_PER_WEIGHT * u64::from(u16::MAX)).leading_zeros();
    (0..enough)
        .find(|&halvings| total(halvings) <= POINTS_MAX)
        .unwrap_or(enough)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ring(endpoints: u16, weight: impl Fn(u16) -> u16) -> Ring {
        Ring::new(Basis::of_weights((0..endpoints).map(weight)))
    }

    fn points_of(ring: &Ring, number: u16) -> usize {
        ring.owners.iter().filter(|owner| **owner == number).count()
    }

    #[test]
    fn the_ring_is_bounded_and_everybody_has_a_point() {
        for (endpoints, weight) in [(1, 1000), (409, 1), (410, 1), (1_000, 1), (1_000, 1000)] {
            let ring = ring(endpoints, |_| weight);
            assert!(
                ring.points.len() <= 65_536,
                "{endpoints} of {weight}: {}",
                ring.points.len()
            );
            assert!(
                ring.points.len() > 65_536 / 3,
                "{endpoints} of {weight}: {}",
                ring.points.len()
            );
            assert!((0..endpoints).all(|number| points_of(&ring, number) > 0));
        }
        let ring = ring(1_000, |number| if number == 7 { 1 } else { 1000 });
        assert_eq!(points_of(&ring, 7), 1);
        assert!(Ring::new(Basis::of(&[])).points.is_empty());
    }

    #[test]
    fn halving_takes_points_away_and_moves_none() {
        let (whole, halved) = (ring(409, |_| 1), ring(410, |_| 1));
        assert_eq!((points_of(&whole, 3), points_of(&halved, 3)), (160, 80));
        let known: std::collections::BTreeSet<_> = whole.points.iter().zip(&whole.owners).collect();
        let of_known = |(_, owner): &(&u64, &u16)| **owner < 409;
        assert!(
            halved
                .points
                .iter()
                .zip(&halved.owners)
                .filter(of_known)
                .all(|point| known.contains(&point))
        );
    }
}
