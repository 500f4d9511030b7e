//! How evenly turns by weight are spread.

use super::super::schedule::{Schedule, spread};

/// Turns that an endpoint may be ahead or behind of its share at any time; the lists below come to 1.25. The best possible order stays
/// below 1 (Tijdeman: The chairman assignment problem, 1980); with all phases alike the heavy one among ten light ones would be 4.5 behind.
const OFF_MAX: f64 = 1.5;

fn schedule(weights: &[u16]) -> Schedule {
    Schedule::new(weights.iter().enumerate().map(|(rank, weight)| (*weight, spread(rank))))
}

/// The most that any endpoint is ahead or behind of its share after any number of turns.
fn most_off(weights: &[u16]) -> f64 {
    let total: u32 = weights.iter().map(|weight| u32::from(*weight)).sum();
    let mut schedule = schedule(weights);
    let mut counts = vec![0u32; weights.len()];
    let mut most = 0.0f64;
    for turn in 1..=2 * total {
        counts[schedule.next(|_| true).unwrap()] += 1;
        for (count, weight) in counts.iter().zip(weights) {
            let share = f64::from(turn) * f64::from(*weight) / f64::from(total);
            most = most.max((f64::from(*count) - share).abs());
        }
    }
    most
}

#[test]
fn turns_are_spread_evenly() {
    let mut rng = fastrand::Rng::with_seed(super::SEED);
    let mut lists = vec![
        vec![5, 1, 1],
        vec![1000, 1],
        [&[10][..], &[1; 10]].concat(),
        [&[100][..], &[1; 100]].concat(),
    ];
    for count in [2, 3, 5, 10, 30] {
        for most in [3, 20] {
            lists.push((0..count).map(|_| rng.u16(1..=most)).collect());
        }
    }
    for weights in lists {
        let off = most_off(&weights);
        assert!(off <= OFF_MAX, "{off} turns off: {weights:?}");
    }
}

#[test]
fn the_largest_weights_do_not_overflow() {
    let weights = [u16::MAX, u16::MAX - 1, 1, 3];
    let mut schedule = schedule(&weights);
    let round: u32 = weights.iter().map(|weight| u32::from(*weight)).sum();
    for _ in 0..2 {
        let mut counts = [0u32; 4];
        for _ in 0..round {
            counts[schedule.next(|_| true).unwrap()] += 1;
        }
        assert_eq!(counts, weights.map(u32::from));
    }
}
