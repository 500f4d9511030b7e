//! Algorithms that go by what is in flight, or by latency.

use std::{cmp::Reverse, collections::BinaryHeap, time::Duration};

use super::{LoadBalancer, World, assert_share, equal, new};
use crate::proxy::live::InFlight;

const MS: Duration = Duration::from_millis(1);

#[test]
fn least_request_takes_the_true_minimum_and_a_random_one_of_equals() {
    let balancer = new(&LoadBalancer::LeastRequest, &equal(6));
    let mut world = World::equal(6);
    world.set_loads(&[7, 2, 9, 2, 3, 2]);
    let counts = world.counts(&balancer, 9_000, |_| true);
    assert_eq!((counts[0], counts[2], counts[4]), (0, 0, 0));
    for index in [1, 3, 5] {
        assert_share(counts[index], 9_000, 1.0 / 3.0);
    }
    // some of the equals are not usable
    let counts = world.counts(&balancer, 9_000, |index| index != 3);
    assert_share(counts[1], 9_000, 0.5);
    assert_eq!(counts[1] + counts[5], 9_000);
    // all of them
    let counts = world.counts(&balancer, 100, |index| index % 2 == 0);
    assert_eq!(counts, [0, 0, 0, 0, 100, 0]);
}

#[test]
fn least_request_counts_opaque_connections() {
    let balancer = new(&LoadBalancer::LeastRequest, &equal(2));
    let mut world = World::equal(2);
    let open = InFlight::connection(&world.endpoints[0]);
    assert_eq!(world.counts(&balancer, 10, |_| true), [0, 10]);
    let more = [0, 1].map(|_| InFlight::request(&world.endpoints[1], None, world.now).unwrap());
    assert_eq!(world.counts(&balancer, 10, |_| true), [10, 0]);
    drop((open, more));
}

/// Of two distinct endpoints out of `count`, the better wins: the one of this rank (0 is the best) beats those behind it.
fn share_of_rank(rank: u16, count: u16) -> f64 {
    2.0 * f64::from(count - 1 - rank) / (f64::from(count) * f64::from(count - 1))
}

#[test]
fn two_choices_are_two_distinct_ones_and_the_less_loaded_wins() {
    let balancer = new(&LoadBalancer::PowerOfTwoChoices, &equal(8));
    let mut world = World::equal(8);
    world.set_loads(&[7, 6, 5, 4, 3, 2, 1, 0]);
    let counts = world.counts(&balancer, 50_000, |_| true);
    for (rank, count) in (0..8).zip(counts.iter().rev()) {
        assert_share(*count, 50_000, share_of_rank(rank, 8));
    }
    // the odd ones are not usable: 7, 5, 3, 1 in flight are left
    let counts = world.counts(&balancer, 50_000, |index| index % 2 == 0);
    for (rank, index) in (0..4).zip([6, 4, 2, 0]) {
        assert_share(counts[index], 50_000, share_of_rank(rank, 4));
    }
}

#[test]
fn peak_ewma_compares_latency_times_what_is_in_flight() {
    let balancer = new(&LoadBalancer::PeakEwma, &equal(4));
    let mut world = World::equal(4);
    for (endpoint, latency) in world.endpoints.iter().zip([40, 10, 30, 20]) {
        endpoint.observe(latency * MS, world.now);
    }
    let counts = world.counts(&balancer, 50_000, |_| true);
    for (rank, index) in (0..4).zip([1, 3, 2, 0]) {
        assert_share(counts[index], 50_000, share_of_rank(rank, 4));
    }
    // 10 ms behind four others is more than 40 ms alone
    world.set_loads(&[0, 4, 0, 0]);
    let counts = world.counts(&balancer, 50_000, |_| true);
    for (rank, index) in (0..4).zip([3, 2, 0, 1]) {
        assert_share(counts[index], 50_000, share_of_rank(rank, 4));
    }
}

#[test]
fn peak_ewma_tries_who_has_no_sample_and_believes_the_kernel() {
    let balancer = new(&LoadBalancer::PeakEwma, &equal(3));
    let mut world = World::equal(3);
    for endpoint in &world.endpoints[..2] {
        endpoint.observe(Duration::from_micros(100), world.now);
    }
    assert_eq!(world.counts(&balancer, 3_000, |index| index != 0), [0, 0, 3_000]);
    // the kernel's round trip says that it is far
    world.endpoints[2].set_first_latency(5 * MS);
    assert_eq!(world.counts(&balancer, 3_000, |index| index != 0), [0, 3_000, 0]);
}

#[test]
fn peak_ewma_leaves_one_alone_that_fails_at_once_and_for_a_time_only() {
    let balancer = new(&LoadBalancer::PeakEwma, &equal(3));
    let mut world = World::equal(3);
    for endpoint in &world.endpoints[1..] {
        endpoint.observe(10 * MS, world.now);
    }
    world.endpoints[0].failed(MS, world.now);
    assert_eq!(world.counts(&balancer, 3_000, |_| true)[0], 0);
    // 1 s has faded to 10 ms after 46 s, if the others are measured meanwhile
    world.now += Duration::from_secs(50);
    for endpoint in &world.endpoints[1..] {
        endpoint.observe(10 * MS, world.now);
    }
    assert!(world.counts(&balancer, 3_000, |_| true)[0] > 0);
    // one that took longer than that to fail counts with its own time
    world.endpoints[1].failed(5_000 * MS, world.now);
    world.endpoints[2].failed(MS, world.now);
    assert_eq!(world.counts(&balancer, 3_000, |index| index != 0), [0, 0, 3_000]);
}

/// Clients that send one request each millisecond to servers that answer after a time of their own; time is turned by hand.
struct Simulation {
    world: World,
    /// Requests on their way, by when (in microseconds) they are answered.
    answers: BinaryHeap<Reverse<(u32, usize, usize)>>,
    open: Vec<Option<InFlight>>,
    at_us: u32,
}

impl Simulation {
    fn new(count: u16) -> Self {
        Self {
            world: World::equal(count),
            answers: BinaryHeap::new(),
            open: Vec::new(),
            at_us: 0,
        }
    }

    /// `answers_after`: microseconds of each server; none: never. Returns how many requests each was sent.
    fn run(&mut self, policy: &LoadBalancer, requests: u32, answers_after: &[Option<u32>]) -> Vec<u32> {
        let balancer = new(policy, &equal(u16::try_from(answers_after.len()).unwrap()));
        let start = self.world.now;
        let mut sent = vec![0; answers_after.len()];
        for _ in 0..requests {
            self.at_us += 1_000;
            self.answer(start);
            let now = start + Duration::from_micros(u64::from(self.at_us));
            self.world.now = now;
            let index = self.world.pick(&balancer, None, |_| true).unwrap();
            self.world.now = start;
            sent[index] += 1;
            let request = InFlight::request(&self.world.endpoints[index], None, now).unwrap();
            if let Some(after) = answers_after[index] {
                self.answers.push(Reverse((self.at_us + after, index, self.open.len())));
            }
            self.open.push(Some(request));
        }
        sent
    }

    fn answer(&mut self, start: std::time::Instant) {
        while let Some(Reverse((at, _, request))) = self
            .answers
            .peek()
            .copied()
            .filter(|Reverse((at, ..))| *at <= self.at_us)
        {
            self.answers.pop();
            if let Some(mut request) = self.open[request].take() {
                request.answered(start + Duration::from_micros(u64::from(at)));
            }
        }
    }
}

#[test]
fn a_slow_server_has_less_than_half_its_share() {
    let mut simulation = Simulation::new(3);
    let sent = simulation.run(
        &LoadBalancer::PeakEwma,
        10_000,
        &[Some(2_000), Some(2_000), Some(20_000)],
    );
    println!("sent {sent:?}");
    assert!(sent[2] < 10_000 / 6, "{sent:?}");
    assert!(sent[2] > 0, "{sent:?}");
    assert!(sent[0].abs_diff(sent[1]) < 1_000, "{sent:?}");
}

#[test]
fn a_server_that_hangs_is_left_alone_although_nothing_fails() {
    let mut simulation = Simulation::new(3);
    let well = [Some(2_000), Some(2_500), Some(3_000)];
    simulation.run(&LoadBalancer::PeakEwma, 2_000, &well);
    let sent = simulation.run(&LoadBalancer::PeakEwma, 5_000, &[None, well[1], well[2]]);
    println!("sent to the one that hangs, and the others: {sent:?}");
    assert!(sent[0] <= 10, "{sent:?}");
    // nor after minutes, when its last samples have faded
    simulation.at_us += 300_000_000;
    let sent = simulation.run(&LoadBalancer::PeakEwma, 5_000, &[None, well[1], well[2]]);
    assert!(sent[0] <= 10, "{sent:?}");
}

#[test]
fn a_server_that_was_slow_is_tried_again() {
    let mut simulation = Simulation::new(2);
    simulation.run(&LoadBalancer::PeakEwma, 2_000, &[Some(500_000), Some(1_000)]);
    let sent = simulation.run(&LoadBalancer::PeakEwma, 120_000, &[Some(1_000), Some(1_000)]);
    println!("sent {sent:?}");
    assert!(sent[0] > 120_000 / 10, "{sent:?}");
}
