//! What a pick and a publication cost. `cargo xtask bench balance` builds it for release and runs it; nothing here passes or fails by a figure.
#![expect(clippy::print_stdout, reason = "the measurement goes to the terminal")]

use std::{
    hint::black_box,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{World, all, equal, new};
use crate::{
    ids::{Generation, ObjectRef},
    model::{AppProtocol, Content, Family, Snapshot, Upstream},
    proxy::{balance::hash, live::Tables},
};

const ENDPOINTS: u16 = 1_000;
/// Upstreams of a publication, and endpoints of each.
const UPSTREAMS: u16 = 1_000;
const ENDPOINTS_EACH: u16 = 10;
/// Measurements of which the median is printed.
const ROUNDS: usize = 101;
/// Picks of one measurement: few, so that most come to their end before another process has its turn.
const PICKS: u32 = 100;

#[test]
#[ignore = "a measurement: cargo xtask bench balance"]
fn cost_of_a_pick() {
    for policy in all() {
        let balancer = new(&policy, &equal(ENDPOINTS));
        let mut world = World::equal(ENDPOINTS);
        for (number, endpoint) in (0u32..).zip(&world.endpoints) {
            endpoint.observe(Duration::from_micros(u64::from(500 + number)), world.now);
        }
        world.set_loads(
            &(0..u32::from(ENDPOINTS))
                .map(|number| 1 + number % 7)
                .collect::<Vec<_>>(),
        );
        let well = of_picks(&mut world, &balancer, |_| true);
        let tenth = of_picks(&mut world, &balancer, |index| index % 10 != 0);
        let none = of_picks(&mut world, &balancer, |_| false);
        println!("{policy:?} of {ENDPOINTS}: {well} ns; a tenth not usable: {tenth} ns; none usable: {none} ns");
    }
}

#[test]
#[ignore = "a measurement: cargo xtask bench balance"]
fn cost_of_tables() {
    for policy in all() {
        let endpoints = equal(ENDPOINTS);
        println!(
            "{policy:?} made for {ENDPOINTS}: {:?}",
            median(|| drop(black_box(new(&policy, &endpoints))))
        );
    }
    let upstreams: Vec<_> = (0..UPSTREAMS).map(|number| upstream(number, ENDPOINTS_EACH)).collect();
    let mut tables = Tables::next(snapshot(&upstreams), None);
    let all = median(|| drop(black_box(Tables::next(snapshot(&upstreams), None))));
    let copies = median(|| drop(black_box(snapshot(&upstreams))));
    let mut changing = upstreams.clone();
    let mut fewer = ENDPOINTS_EACH;
    let one = median(|| {
        fewer = if fewer == ENDPOINTS_EACH {
            ENDPOINTS_EACH - 1
        } else {
            ENDPOINTS_EACH
        };
        changing[7] = upstream(7, fewer);
        tables = Tables::next(snapshot(&changing), Some(&tables));
    });
    let per_pick = {
        let started = Instant::now();
        for upstream in changing.iter().cycle().take(100_000) {
            black_box(tables.group(upstream));
        }
        started.elapsed() / 100_000
    };
    println!("Tables::next of {UPSTREAMS} upstreams with {ENDPOINTS_EACH} endpoints each: {all:?} from nothing");
    println!("… with one of them changed: {one:?}, of which {copies:?} are the test's own copy of the snapshot");
    println!("Tables::group: {per_pick:?}");
}

fn of_picks(world: &mut World, balancer: &super::Balancer, usable: impl Fn(usize) -> bool) -> u128 {
    let keys: Vec<_> = (0..PICKS).map(|key| hash(&key.to_be_bytes())).collect();
    let round = median(|| {
        for key in &keys {
            black_box(world.pick(balancer, Some(*key), &usable));
        }
    });
    round.as_nanos() / u128::from(PICKS)
}

fn median(mut work: impl FnMut()) -> Duration {
    let mut times: Vec<_> = (0..ROUNDS)
        .map(|_| {
            let started = Instant::now();
            work();
            started.elapsed()
        })
        .collect();
    times.sort();
    times[ROUNDS / 2]
}

fn upstream(number: u16, endpoints: u16) -> Arc<Upstream> {
    let [high, low] = number.to_be_bytes();
    let mut all = equal(endpoints);
    for (endpoint, last) in all.iter_mut().zip(0..) {
        endpoint.address = SocketAddr::from(([10, high, low, last], 8080));
    }
    Arc::new(Upstream {
        service: ObjectRef::new("shop", format!("service-{number}")),
        port: 80,
        family: Family::V4,
        app_protocol: AppProtocol::Detect,
        endpoints: all,
        policy: None,
        settings: Arc::default(),
    })
}

fn snapshot(upstreams: &[Arc<Upstream>]) -> Arc<Snapshot> {
    let at = |number| SocketAddr::from(([11, 0, 0, 1], number));
    Arc::new(Snapshot {
        generation: Generation(1),
        content: Content {
            upstreams: (0..)
                .zip(upstreams)
                .map(|(number, upstream)| (at(number), Arc::clone(upstream)))
                .collect(),
            ..Content::default()
        },
    })
}
