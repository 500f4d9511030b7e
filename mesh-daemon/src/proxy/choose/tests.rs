//! Which endpoint an attempt gets, and what its end does to the others of its Service.

use std::{
    collections::BTreeSet,
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::Duration,
};

use prometheus::Registry;

use super::*;
use crate::{
    drain,
    ids::{Generation, ObjectRef},
    model::{
        AppProtocol, AppliedPolicy, CircuitBreaker, Content, FailureClass, Family, PolicySpec, Snapshot,
        UpstreamEndpoint,
    },
    proxy::{Options, Shared, breaker::State, live::Tables, route},
};

const FAILED: AttemptEnd = AttemptEnd::Answered {
    status: 500,
    grpc: None,
};

/// A worker, a Service, and a client that asks for it.
pub(in crate::proxy) struct Bench {
    pub(in crate::proxy) worker: Rc<Worker>,
    pub(in crate::proxy) plan: Plan,
    pub(in crate::proxy) client: Connection,
}

impl Bench {
    fn of(shared: &Arc<Shared>) -> Self {
        let tables: Arc<Tables> = shared.tables.load_full();
        let client = Connection {
            client: SocketAddr::from(([127, 0, 0, 1], 4000)),
            source: None,
            destination: service(),
        };
        Self {
            worker: Worker::new(Arc::clone(shared), drain::channel().1),
            plan: route::direct(&tables, &client),
            client,
        }
    }

    /// With a policy.
    pub(in crate::proxy) fn new(endpoints: &[SocketAddr], spec: PolicySpec) -> Self {
        Self::of(&shared(endpoints, spec))
    }

    /// What is live of it.
    pub(in crate::proxy) fn group(&self) -> &Group {
        self.plan.group.as_ref().unwrap()
    }

    /// For one request or connection.
    pub(in crate::proxy) fn chooser(&self, purpose: Purpose) -> Chooser<'_> {
        Chooser::new(&self.worker, &self.plan, purpose, &self.client, None)
    }

    /// One request to each endpoint, of which those fail.
    fn fail(&self, failing: &[usize]) {
        let mut chooser = self.chooser(Purpose::Request);
        while let Ok(mut attempt) = chooser.next() {
            if failing.contains(chooser.tried.last().unwrap()) {
                attempt.settle(&self.worker, FAILED);
            }
        }
    }

    fn ejected(&self) -> usize {
        let endpoints = self.group().endpoints.iter();
        endpoints
            .filter(|endpoint| endpoint.breaker.state() != State::Closed)
            .count()
    }
}

fn service() -> SocketAddr {
    SocketAddr::from(([10, 96, 0, 1], 80))
}

fn addresses<const COUNT: usize>() -> [SocketAddr; COUNT] {
    std::array::from_fn(|index| SocketAddr::from(([10, 0, 0, 1], 8000 + u16::try_from(index).unwrap())))
}

fn shared(endpoints: &[SocketAddr], spec: PolicySpec) -> Arc<Shared> {
    let endpoint = |address: &SocketAddr| UpstreamEndpoint {
        address: *address,
        workload: None,
    };
    let name = ObjectRef::new("shop", "web");
    let upstream = Upstream {
        service: name.clone(),
        port: 80,
        family: Family::V4,
        app_protocol: AppProtocol::Detect,
        endpoints: endpoints.iter().map(endpoint).collect(),
        policy: Some(Arc::new(AppliedPolicy {
            name,
            generation: 1,
            spec,
        })),
        settings: Arc::default(),
    };
    let options = Options {
        marks: mesh_common::settings::Settings::DEFAULT_MARKS,
        transparent: false,
    };
    let shared = Shared::new(&Registry::new(), options);
    shared.publish(Arc::new(Snapshot {
        generation: Generation(1),
        content: Content {
            upstreams: [(service(), Arc::new(upstream))].into(),
            ..Content::default()
        },
    }));
    shared
}

/// One failure opens it, for ever.
fn breaker(when_all_open: WhenAllOpen) -> CircuitBreaker {
    CircuitBreaker {
        failure_threshold: 1,
        success_threshold: 1,
        timeout: Duration::from_secs(3600),
        half_open_requests: 1,
        failure_on: BTreeSet::from([FailureClass::Http5xx]),
        max_ejection_percent: 100,
        when_all_open,
    }
}

fn breaks(when_all_open: WhenAllOpen) -> PolicySpec {
    PolicySpec {
        circuit_breaker: Some(breaker(when_all_open)),
        ..PolicySpec::default()
    }
}

fn refusal(next: Result<Attempt, Failure>) -> Option<crate::proxy::outcome::Outcome> {
    next.err().map(|failure| failure.outcome())
}

#[test]
fn it_panics_only_if_every_breaker_is_open() {
    use crate::proxy::outcome::Outcome;
    for (when, open, after_two) in [
        (WhenAllOpen::Panic, &[0][..], Some(Outcome::CircuitOpen)),
        (WhenAllOpen::FailFast, &[0][..], Some(Outcome::CircuitOpen)),
        (WhenAllOpen::Panic, &[0, 1, 2][..], None),
    ] {
        let bench = Bench::new(&addresses::<3>(), breaks(when));
        bench.fail(open);
        assert_eq!(bench.ejected(), open.len());
        let mut chooser = bench.chooser(Purpose::Request);
        let two = [chooser.next(), chooser.next()];
        assert!(two.iter().all(Result::is_ok), "{when:?} {open:?}");
        if open.len() == 1 {
            assert!(!chooser.tried.contains(&0));
        }
        // the two were asked and did not accept, which no breaker counts
        assert_eq!(refusal(chooser.next()), after_two, "{when:?} {open:?}");
    }
    let bench = Bench::new(&addresses::<3>(), breaks(WhenAllOpen::FailFast));
    bench.fail(&[0, 1, 2]);
    let mut chooser = bench.chooser(Purpose::Request);
    assert_eq!(refusal(chooser.next()), Some(Outcome::CircuitOpen));
}

#[test]
fn a_limit_that_is_reached_is_no_open_breaker() {
    use crate::proxy::outcome::Outcome;
    for when in [WhenAllOpen::Panic, WhenAllOpen::FailFast] {
        let limits = Limits {
            max_requests_per_endpoint: Some(1),
            ..Limits::default()
        };
        let spec = PolicySpec {
            limits: Some(limits),
            ..breaks(when)
        };
        let bench = Bench::new(&addresses::<3>(), spec);
        bench.fail(&[1]);
        let mut chooser = bench.chooser(Purpose::Request);
        let held: Vec<_> = std::iter::from_fn(|| chooser.next().ok()).collect();
        assert_eq!(held.len(), 2);
        let refused = refusal(bench.chooser(Purpose::Request).next());
        assert_eq!(refused, Some(Outcome::Overflow(Limit::RequestsPerEndpoint)), "{when:?}");
        assert_eq!(
            bench.group().endpoints[1].load(),
            0,
            "{when:?}: the one that is ejected"
        );
    }
}

#[test]
fn an_opaque_connection_goes_where_there_is_room() {
    let limits = Limits {
        max_connections_per_endpoint: Some(1),
        ..Limits::default()
    };
    let spec = PolicySpec {
        limits: Some(limits),
        ..PolicySpec::default()
    };
    let bench = Bench::new(&addresses::<3>(), spec);
    let first = bench.chooser(Purpose::Connection).next().ok().unwrap();
    let _held = first.connection().ok().unwrap();
    for turn in 0..6 {
        let attempt = bench.chooser(Purpose::Connection).next().ok().unwrap();
        assert_ne!(attempt.address(), first.address(), "turn {turn}");
        assert!(attempt.connection().is_ok());
    }
}

/// Two workers have an endpoint fail at the same moment, to a few nanoseconds, again and again: half of the endpoints may be ejected, which is one.
#[test]
fn two_that_fail_at_once_are_not_both_ejected() {
    const ROUNDS: u32 = 4_000;
    const SPINS: u32 = 5_000;
    let mut spec = breaks(WhenAllOpen::FailFast);
    spec.circuit_breaker.as_mut().unwrap().max_ejection_percent = 50;
    let shared = shared(&addresses::<2>(), spec);
    let arrived = AtomicU32::new(0);
    let meet = |meeting: u32| {
        arrived.fetch_add(1, Ordering::SeqCst);
        let all_here = || arrived.load(Ordering::SeqCst) >= 2 * meeting;
        while !all_here() {
            // where the machine is busy, the other one does not run at all
            if !(0..SPINS).any(|_| all_here()) {
                thread::yield_now();
            }
        }
    };
    let worker = |own: usize| {
        let bench = Bench::of(&shared);
        let group = Arc::clone(bench.plan.group.as_ref().unwrap());
        let mut most = 0;
        for round in 0..ROUNDS {
            let mut attempt = bench.chooser(Purpose::Request).take(&group, own, false).unwrap();
            meet(3 * round + 1);
            attempt.settle(&bench.worker, FAILED);
            meet(3 * round + 2);
            most = most.max(bench.ejected());
            meet(3 * round + 3);
            group.endpoints[own].breaker.forget();
        }
        most
    };
    let most = thread::scope(|scope| {
        let other = scope.spawn(|| worker(1));
        worker(0).max(other.join().unwrap())
    });
    assert_eq!(most, 1);
}
