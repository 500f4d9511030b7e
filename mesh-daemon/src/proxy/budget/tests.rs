//! The budget from both sides, under a turned clock: never more in any window, and what is refused had to be, but for the stated part.

use std::{sync::Barrier, thread};

use super::*;

const S: Duration = Duration::from_secs(1);

fn settings(percent: u8, interval: Duration, (count, rate): (u32, Duration)) -> RetryBudget {
    RetryBudget {
        percent,
        interval,
        min_retry_count: count,
        min_retry_interval: rate,
    }
}

/// `percent: 20`, `interval: 10s`, `minRetryRate: 10/1s`: the default.
fn usual() -> RetryBudget {
    settings(20, 10 * S, (10, S))
}

/// Asks `times` times at once; how many are let through.
fn ask(budget: &Budget, settings: &RetryBudget, now: Instant, times: usize) -> usize {
    (0..times).filter(|_| budget.try_retry(settings, now)).count()
}

fn requests(budget: &Budget, count: usize) {
    (0..count).for_each(|_| budget.request());
}

#[test]
fn the_floor_is_the_rate_scaled_to_the_window() {
    for (interval, rate, floor) in [
        (10 * S, (10, S), 100),
        (S, (10, S), 10),
        (10 * S, (1, 3 * S), 4),
        (S, (10, 60 * S), 1),
        (S / 10, (10, S), 1),
        (10 * S, (0, S), 0),
        (3600 * S, (1_000_000, S), 3_600_000_000),
    ] {
        let settings = settings(20, interval, rate);
        assert_eq!(super::floor(&settings), floor, "{rate:?} in {interval:?}");
        let most = usize::try_from(floor.min(1000)).unwrap();
        let asked = usize::try_from(floor.min(999)).unwrap() + 1;
        let through = ask(&Budget::default(), &settings, Instant::now(), asked);
        assert_eq!(
            through,
            most.min(asked),
            "{rate:?} in {interval:?}: all at once, without a request"
        );
    }
}

#[test]
fn who_only_looks_pays_nothing() {
    let (budget, now) = (Budget::default(), Instant::now());
    let one = settings(0, S, (1, S));
    assert!((0..10).all(|_| budget.has_room(&one, now)));
    assert!(budget.try_retry(&one, now));
    assert!(!budget.has_room(&one, now) && !budget.try_retry(&one, now));
    assert!(budget.has_room(&one, now + 2 * S));
}

#[test]
fn the_floor_comes_back_after_the_interval() {
    let (budget, start) = (Budget::default(), Instant::now());
    let at = |ms| start + Duration::from_millis(ms);
    let through = |ms, times| ask(&budget, &usual(), at(ms), times);
    assert_eq!(through(0, 60), 60);
    assert_eq!(through(5_000, 60), 40);
    assert_eq!(through(10_000, 60), 0, "both ends of a window belong to it");
    assert_eq!(through(10_001, 99), 60);
    assert_eq!(through(15_001, 99), 40);
}

/// Asked all the time and without a request: what is let through in 32 intervals.
#[test]
fn the_floor_is_had_in_33_of_32_intervals() {
    let (budget, start) = (Budget::default(), Instant::now());
    let asks = (0..32_000).map(|step| ask(&budget, &usual(), start + step * Duration::from_millis(10), 1));
    let all: usize = asks.sum();
    assert!((3100..=3200).contains(&all), "{all}");
}

#[test]
fn requests_pay_in_windows_that_hold_them() {
    let (budget, now) = (Budget::default(), Instant::now());
    requests(&budget, 10_000);
    assert_eq!(
        ask(&budget, &usual(), now, 200),
        100,
        "what came before is in no window of these"
    );
    requests(&budget, 504);
    assert!(!budget.try_retry(&usual(), now), "101 are more than 20 % of 504");
    requests(&budget, 1);
    assert!(budget.try_retry(&usual(), now), "101 are 20 % of 505");
    assert!(!budget.try_retry(&usual(), now));
}

/// A thousand requests a second, each of which asks for a retry: what is let through, of what `percent` and no window's limit would.
#[test]
fn under_steady_load_nearly_all_of_it_is_let_through() {
    for (percent, rate, at_least) in [
        (20, (10, S), 97),
        (100, (10, S), 97),
        (1, (1, 10 * S), 49),
        (50, (1, S), 90),
    ] {
        let settings = settings(percent, 10 * S, rate);
        let (budget, start) = (Budget::default(), Instant::now());
        let mut through = 0;
        for ms in 0..60_000 {
            budget.request();
            through += ask(&budget, &settings, start + Duration::from_millis(ms), 1);
        }
        let promised = usize::from(percent) * 600;
        assert!(
            (promised * at_least / 100..=promised + 100).contains(&through),
            "{percent} % and {rate:?}: {through} of {promised}"
        );
    }
}

#[test]
fn other_settings_measure_what_was() {
    let (budget, now) = (Budget::default(), Instant::now());
    let less = settings(20, 10 * S, (1, S));
    let paying = settings(50, 10 * S, (1, S));
    assert_eq!(ask(&budget, &less, now, 200), 10);
    assert_eq!(ask(&budget, &usual(), now, 200), 90, "the new floor, less what was had");
    assert_eq!(ask(&budget, &less, now, 200), 0);
    assert_eq!(ask(&budget, &usual(), now, 200), 0, "to and fro forgives nothing");
    requests(&budget, 300);
    assert_eq!(ask(&budget, &less, now, 200), 0, "20 % of 300 are had");
    assert_eq!(
        ask(&budget, &paying, now, 200),
        10,
        "of 50 % there are 50 left, but the last ones have no requests with them"
    );
    assert_eq!(ask(&budget, &usual(), now + 10 * S + S, 200), 100);
}

#[test]
fn threads_share_one_budget() {
    const THREADS: usize = 8;
    let (budget, now, barrier) = (Budget::default(), Instant::now(), Barrier::new(THREADS));
    let client = || {
        barrier.wait();
        ask(&budget, &usual(), now, 50)
    };
    let through: usize = thread::scope(|scope| {
        let clients: Vec<_> = (0..THREADS).map(|_| scope.spawn(client)).collect();
        clients.into_iter().map(|client| client.join().unwrap()).sum()
    });
    assert_eq!(through, 100);
}

/// A retry that was let through: when, and how many requests there had been.
#[derive(Clone, Copy)]
struct Retry {
    at: Instant,
    requests: u64,
}

/// What random traffic did.
struct Traffic {
    settings: RetryBudget,
    retries: Vec<Retry>,
    /// Retries that were refused, and how many had been let through before each.
    refused: Vec<(Retry, usize)>,
}

#[test]
fn in_every_window_never_more_and_nothing_is_refused_without_need() {
    let (mut paid, mut refused) = (0, 0);
    for seed in 1..=150 {
        let traffic = traffic(&mut fastrand::Rng::with_seed(seed));
        paid += never_more(&traffic, seed);
        refused_only_where_one_more_would_be_too_many(&traffic, seed);
        refused += traffic.refused.len();
    }
    assert!(paid > 10_000, "the traffic is worth it: {paid} windows above the floor");
    assert!(refused > 10_000, "the traffic is worth it: {refused} refused");
}

/// Every window that begins and ends with a retry, its ends included, with the requests between those two only: no window has fewer for its retries. Returns how
/// many of them hold more than the floor.
fn never_more(traffic: &Traffic, seed: u64) -> usize {
    let Traffic { settings, retries, .. } = traffic;
    let floor = floor(settings);
    let mut paid = 0;
    for (index, first) in retries.iter().enumerate() {
        for (count, last) in (1..).zip(&retries[index..]) {
            if last.at - first.at > settings.interval {
                break;
            }
            let requests = last.requests - first.requests;
            let is_held = count <= floor || 100 * count <= u64::from(settings.percent) * requests;
            assert!(
                is_held,
                "seed {seed}: {count} retries on {requests} requests, {settings:?}"
            );
            paid += usize::from(count > floor);
        }
    }
    paid
}

/// With one more, some window of at most 33/32 of the interval would hold more than `percent` of its requests and more than 31/32 of the floor.
fn refused_only_where_one_more_would_be_too_many(traffic: &Traffic, seed: u64) {
    let Traffic { settings, .. } = traffic;
    let floor = floor(settings);
    let longest = settings.interval + settings.interval / RESOLUTION;
    for (refused, before) in &traffic.refused {
        let first_of_window = |(count, first): (u64, &Retry)| {
            let requests = refused.requests - first.requests;
            refused.at - first.at <= longest
                && u64::from(RESOLUTION) * count > u64::from(RESOLUTION - 1) * floor
                && 100 * count > u64::from(settings.percent) * requests
        };
        let needed = floor == 0 || (2..).zip(traffic.retries[..*before].iter().rev()).any(first_of_window);
        assert!(needed, "seed {seed}: refused without need, {settings:?}");
    }
}

/// Bursts of requests and of retries, with pauses of any length up to an interval.
fn traffic(random: &mut fastrand::Rng) -> Traffic {
    let rates = [(10, S), (1, S), (1, 10 * S), (7, 2 * S), (0, S), (40, S)];
    let settings = settings(
        [0, 1, 20, 50, 100][random.usize(..5)],
        S * random.u32(1..11),
        rates[random.usize(..rates.len())],
    );
    let budget = Budget::default();
    let mut now = Instant::now();
    let (mut count, mut retries, mut refused) = (0, Vec::new(), Vec::new());
    for _ in 0..random.usize(..400) {
        let pause = settings.interval / [10, 300, 10_000][random.usize(..3)];
        now += pause.mul_f64(random.f64());
        let most = [1, 3, 200][random.usize(..3)];
        for _ in 0..random.usize(..=most) {
            budget.request();
            count += 1;
        }
        for _ in 0..random.usize(..20) {
            let retry = Retry {
                at: now,
                requests: count,
            };
            if budget.try_retry(&settings, now) {
                retries.push(retry);
            } else {
                refused.push((retry, retries.len()));
            }
            let runs = budget.retries.lock().unwrap().runs.len();
            assert!(runs < RUNS_MAX, "{runs} runs, {settings:?}");
        }
    }
    Traffic {
        settings,
        retries,
        refused,
    }
}

/// The bound is the structure's own while the settings stay; it holds also where they do not.
#[test]
fn memory_is_bounded_whatever_the_settings_do() {
    let mut random = fastrand::Rng::with_seed(1);
    let (budget, mut now) = (Budget::default(), Instant::now());
    let both = [settings(100, 10 * S, (1, S)), settings(100, 3600 * S, (1000, S))];
    for _ in 0..20_000 {
        requests(&budget, 3);
        now += Duration::from_millis(random.u64(..20));
        budget.try_retry(&both[random.usize(..2)], now);
        assert!(budget.retries.lock().unwrap().runs.len() <= RUNS_MAX);
    }
}
