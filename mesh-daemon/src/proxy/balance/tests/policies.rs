//! What holds for every algorithm.

use super::{LoadBalancer, World, all, assert_share, by_header, equal, new};
use crate::proxy::balance::Balancer;

#[test]
fn nobody_usable_is_nobody_chosen() {
    for policy in all() {
        for count in [0, 1, 3] {
            let balancer = new(&policy, &equal(count));
            let mut world = World::equal(count);
            for key in [None, Some(0), Some(u64::MAX)] {
                assert_eq!(world.pick(&balancer, key, |_| false), None, "{policy:?} of {count}");
                assert_eq!(world.pick_again(&balancer, |_| false), None, "{policy:?} of {count}");
            }
            assert_eq!(
                world.pick(&balancer, Some(7), |_| true).is_some(),
                count > 0,
                "{policy:?} of {count}"
            );
        }
    }
}

#[test]
fn the_only_usable_one_is_found_among_many() {
    for policy in all() {
        let balancer = new(&policy, &equal(500));
        let mut world = World::equal(500);
        for only in [0, 250, 499] {
            for key in [None, Some(1), Some(u64::MAX)] {
                assert_eq!(
                    world.pick(&balancer, key, |index| index == only),
                    Some(only),
                    "{policy:?}"
                );
            }
        }
    }
}

#[test]
fn idle_endpoints_of_equal_weight_share_evenly_and_those_left_when_others_are_not_usable() {
    for policy in all() {
        let balancer = new(&policy, &equal(10));
        let mut world = World::equal(10);
        for count in world.counts(&balancer, 20_000, |_| true) {
            assert_share(count, 20_000, 0.1);
        }
        // most unusable: drawing fails often, so that the walks behind it are part of what is seen
        let usable = |index| index < 2 || index == 6;
        let counts = world.counts(&balancer, 20_000, usable);
        for index in [0, 1, 6] {
            assert_share(counts[index], 20_000, 1.0 / 3.0);
        }
    }
}

#[test]
fn round_robin_is_what_holds_without_a_policy_and_only_hashes_have_a_key() {
    assert!(matches!(Balancer::new(None, &equal(3), None), Balancer::RoundRobin(_)));
    for policy in all() {
        let expected = match &policy {
            LoadBalancer::RingHash(key) | LoadBalancer::Maglev(key) => Some(key.clone()),
            _ => None,
        };
        assert_eq!(new(&policy, &equal(3)).hash_key().cloned(), expected);
    }
    assert_eq!(
        new(&LoadBalancer::Maglev(by_header()), &[]).hash_key(),
        Some(&by_header())
    );
}

#[test]
fn a_change_of_the_algorithm_starts_it_afresh() {
    let mut world = World::equal(3);
    let mut previous: Option<Balancer> = None;
    for policy in all().into_iter().chain(all()) {
        let next = Balancer::new(Some(&policy), &equal(3), previous.as_ref());
        assert!(world.pick(&next, Some(1), |_| true).is_some());
        assert_eq!(
            std::mem::discriminant(&next),
            std::mem::discriminant(&new(&policy, &[]))
        );
        previous = Some(next);
    }
}
