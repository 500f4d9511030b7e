//! Round robin, with and without weights.

use super::{Balancer, LoadBalancer, World, assert_share, endpoint, equal, new, weighted};

fn sequence(world: &mut World, balancer: &Balancer, picks: usize, usable: impl Fn(usize) -> bool) -> Vec<usize> {
    (0..picks)
        .map(|_| world.pick(balancer, None, &usable).unwrap())
        .collect()
}

#[test]
fn round_robin_goes_around() {
    let balancer = new(&LoadBalancer::RoundRobin, &equal(3));
    let mut world = World::equal(3);
    assert_eq!(sequence(&mut world, &balancer, 7, |_| true), [0, 1, 2, 0, 1, 2, 0]);
}

#[test]
fn a_dead_endpoints_turns_go_to_all_and_not_to_its_neighbour() {
    for policy in [LoadBalancer::RoundRobin, LoadBalancer::WeightedRoundRobin] {
        for dead in 0..5 {
            let balancer = new(&policy, &equal(5));
            let mut world = World::equal(5);
            let mut expected = vec![100; 5];
            expected[dead] = 0;
            let counts = world.counts(&balancer, 400, |index| index != dead);
            assert_eq!(counts, expected, "{policy:?} without {dead}");
        }
    }
}

/// No breaker: each request whose turn is the dead one's finds out for itself, and is tried again elsewhere.
fn serve(policy: &LoadBalancer, weights: &[u16], dead: usize, requests: u32) -> (Vec<u32>, u32) {
    let balancer = new(policy, &weighted(weights));
    let mut world = World::of(&weighted(weights));
    let mut served = vec![0; weights.len()];
    let mut refused = 0;
    for _ in 0..requests {
        let mut index = world.pick(&balancer, None, |_| true).unwrap();
        if index == dead {
            refused += 1;
            index = world.pick_again(&balancer, |index| index != dead).unwrap();
        }
        served[index] += 1;
    }
    (served, refused)
}

#[test]
fn an_endpoint_that_refuses_sends_its_clients_to_all_others() {
    let (served, refused) = serve(&LoadBalancer::RoundRobin, &[1; 4], 2, 40_000);
    assert_eq!((refused, served[2]), (10_000, 0));
    for index in [0, 1, 3] {
        assert_share(served[index] - 10_000, 10_000, 1.0 / 3.0);
    }
    let (served, refused) = serve(&LoadBalancer::WeightedRoundRobin, &[4, 3, 2, 1], 0, 40_000);
    assert_eq!((refused, served[0]), (16_000, 0));
    for (served, weight) in served.iter().zip([4u32, 3, 2, 1]).skip(1) {
        assert_share(served - 4_000 * weight, 16_000, f64::from(weight) / 6.0);
    }
}

#[test]
fn a_retry_spends_no_turn() {
    for policy in [LoadBalancer::RoundRobin, LoadBalancer::WeightedRoundRobin] {
        let (served, refused) = serve(&policy, &[1, 1], 0, 100);
        assert_eq!(
            (served, refused),
            (vec![0, 100], 50),
            "{policy:?}: every second client meets the dead one, not all"
        );
    }
}

#[test]
fn the_cursor_lives_on_and_old_and_new_snapshots_take_turns() {
    let first = new(&LoadBalancer::RoundRobin, &equal(3));
    let mut world = World::equal(3);
    assert_eq!(sequence(&mut world, &first, 2, |_| true), [0, 1]);
    let second = Balancer::new(None, &equal(4), Some(&first));
    let mut wider = World::equal(4);
    assert_eq!(sequence(&mut wider, &second, 1, |_| true), [2]);
    assert_eq!(sequence(&mut world, &first, 1, |_| true), [0]);
    assert_eq!(sequence(&mut wider, &second, 1, |_| true), [0]);
}

#[test]
fn weighted_turns_are_exact_in_every_round() {
    for weights in [
        &[5, 1, 1][..],
        &[1000, 1, 500],
        &[3, 3, 3],
        &[7],
        &[10, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1],
    ] {
        let balancer = new(&LoadBalancer::WeightedRoundRobin, &weighted(weights));
        let mut world = World::of(&weighted(weights));
        let round: u32 = weights.iter().map(|weight| u32::from(*weight)).sum();
        let expected: Vec<u32> = weights.iter().map(|weight| u32::from(*weight)).collect();
        for _ in 0..20 {
            assert_eq!(world.counts(&balancer, round, |_| true), expected);
        }
    }
}

#[test]
fn weighted_turns_of_who_is_left_stay_exact() {
    let weights = [5, 3, 1, 2];
    let balancer = new(&LoadBalancer::WeightedRoundRobin, &weighted(&weights));
    let mut world = World::of(&weighted(&weights));
    let without_the_heaviest = world.counts(&balancer, 600, |index| index != 0);
    for (count, expected) in without_the_heaviest.iter().zip([0, 300u32, 100, 200]) {
        assert!(count.abs_diff(expected) <= 1, "{without_the_heaviest:?}");
    }
    // who is back has nothing to catch up on
    let after = world.counts(&balancer, 11, |_| true);
    for (count, weight) in after.iter().zip(weights) {
        assert!(count.abs_diff(u32::from(weight)) <= 1, "{after:?}");
    }
}

#[test]
fn weighted_turns_live_on() {
    let weights = [4, 2, 1, 3];
    let mut world = World::of(&weighted(&weights));
    let undisturbed = {
        let balancer = new(&LoadBalancer::WeightedRoundRobin, &weighted(&weights));
        sequence(&mut world, &balancer, 20, |_| true)
    };
    let mut balancer = new(&LoadBalancer::WeightedRoundRobin, &weighted(&weights));
    let mut seen = Vec::new();
    for _ in 0..20 {
        balancer = Balancer::new(
            Some(&LoadBalancer::WeightedRoundRobin),
            &weighted(&weights),
            Some(&balancer),
        );
        seen.push(world.pick(&balancer, None, |_| true).unwrap());
    }
    assert_eq!(seen, undisturbed, "a snapshot between any two picks changes nothing");
}

#[test]
fn an_endpoint_that_joins_or_goes_leaves_the_others_in_their_order() {
    let all = weighted(&[4, 2, 1, 3]);
    let mut world = World::of(&all);
    let policy = LoadBalancer::WeightedRoundRobin;
    let balancer = new(&policy, &all);
    sequence(&mut world, &balancer, 7, |_| true);
    let expected: Vec<_> = {
        let same = Balancer::new(Some(&policy), &all, Some(&balancer));
        sequence(&mut world, &same, 40, |_| true)
    };
    // one goes from the middle
    let mut fewer = all.clone();
    fewer.remove(1);
    let after = Balancer::new(Some(&policy), &fewer, Some(&balancer));
    let mut smaller = World::of(&fewer);
    let seen = sequence(&mut smaller, &after, 32, |_| true);
    let expected_left: Vec<_> = expected
        .iter()
        .filter(|&&index| index != 1)
        .map(|&index| index - usize::from(index > 1))
        .collect();
    assert_eq!(seen, expected_left[..32]);
    // one comes at the front: its share at once, no burst
    let mut more = vec![endpoint(999, 2)];
    more.extend(all.clone());
    let after = Balancer::new(Some(&policy), &more, Some(&balancer));
    let seen = sequence(&mut World::of(&more), &after, 48, |_| true);
    let of_others: Vec<_> = seen
        .iter()
        .filter(|&&index| index != 0)
        .map(|&index| index - 1)
        .collect();
    assert_eq!(of_others, expected[..of_others.len()]);
    assert_eq!(seen.len() - of_others.len(), 8, "2 of 12, four rounds");
}

#[test]
fn a_changed_weight_takes_effect_at_once() {
    let policy = LoadBalancer::WeightedRoundRobin;
    let before = weighted(&[1000, 1]);
    let mut world = World::of(&before);
    let balancer = new(&policy, &before);
    sequence(&mut world, &balancer, 700, |_| true);
    let after = Balancer::new(Some(&policy), &weighted(&[1, 1000]), Some(&balancer));
    let counts = world.counts(&after, 1001, |_| true);
    assert!(counts[0].abs_diff(1) <= 1, "{counts:?}");
}
