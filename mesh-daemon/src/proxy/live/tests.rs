//! Live state over several snapshots.

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{EndpointLive, Group, InFlight, Tables};
use crate::{
    ids::{Generation, ObjectRef},
    model::{
        AppProtocol, AppliedPolicy, CircuitBreaker, Content, Family, PolicySpec, Snapshot, Upstream, UpstreamEndpoint,
        WhenAllOpen,
    },
    proxy::breaker::{State, Transition, Verdict},
};

fn upstream(service: &str, port: u16, endpoints: &[u8]) -> Arc<Upstream> {
    let endpoint = |last: &u8| UpstreamEndpoint {
        address: SocketAddr::from(([10, 1, 0, *last], 8080)),
        workload: None,
    };
    Arc::new(Upstream {
        service: ObjectRef::new("shop", service),
        port,
        family: Family::V4,
        app_protocol: AppProtocol::Detect,
        endpoints: endpoints.iter().map(endpoint).collect(),
        policy: None,
        settings: Arc::default(),
    })
}

fn snapshot(upstreams: &[&Arc<Upstream>], backends: &[&Arc<Upstream>]) -> Arc<Snapshot> {
    let at = |number: usize| SocketAddr::from(([10, 0, 0, 1], u16::try_from(number).unwrap()));
    let upstreams = upstreams.iter().enumerate();
    let backends = backends.iter().map(|backend| (backend.key(), Arc::clone(backend)));
    Arc::new(Snapshot {
        generation: Generation(1),
        content: Content {
            upstreams: upstreams
                .map(|(number, upstream)| (at(number), Arc::clone(upstream)))
                .collect(),
            backends: backends.collect(),
            ..Content::default()
        },
    })
}

fn endpoint<'a>(tables: &'a Tables, upstream: &Arc<Upstream>, index: usize) -> &'a Arc<EndpointLive> {
    &tables.group(upstream).unwrap().endpoints[index]
}

fn turn(group: &Group) -> usize {
    let choice = crate::proxy::balance::Choice {
        endpoints: &group.endpoints,
        usable: &|_| true,
        key: None,
        rng: &mut fastrand::Rng::with_seed(1),
        now: Instant::now(),
    };
    group.balancer.pick(choice).unwrap()
}

#[test]
fn upstreams_and_backends_have_a_group_and_what_they_share_has_one() {
    let (web, api) = (upstream("web", 80, &[1, 2]), upstream("api", 80, &[3]));
    let tables = Tables::next(snapshot(&[&web], &[&web, &api]), None);
    assert_eq!(tables.groups.len(), 2);
    for upstream in [&web, &api] {
        let group = tables.group(upstream).unwrap();
        assert!(Arc::ptr_eq(&group.upstream, upstream));
        let live: Vec<_> = group.endpoints.iter().map(|endpoint| endpoint.address).collect();
        let said: Vec<_> = upstream.endpoints.iter().map(|endpoint| endpoint.address).collect();
        assert_eq!(live, said);
    }
    let equal = upstream("web", 80, &[1, 2]);
    assert!(tables.group(&equal).is_none(), "equal, but of another snapshot");
}

#[test]
fn an_unchanged_upstream_keeps_its_group() {
    let (web, api) = (upstream("web", 80, &[1, 2]), upstream("api", 80, &[3]));
    let first = Tables::next(snapshot(&[&web, &api], &[]), None);
    let changed = upstream("api", 80, &[3, 4]);
    let second = Tables::next(snapshot(&[&web, &changed], &[]), Some(&first));
    assert!(Arc::ptr_eq(first.group(&web).unwrap(), second.group(&web).unwrap()));
    assert!(second.group(&api).is_none());
}

#[test]
fn an_endpoint_that_stays_keeps_its_state_and_one_that_is_new_has_none() {
    let before = upstream("web", 80, &[1, 2]);
    let first = Tables::next(snapshot(&[&before], &[]), None);
    let stays = Arc::clone(endpoint(&first, &before, 1));
    let _in_flight: Vec<_> = (0..7).map(|_| stays.requests.try_acquire(None)).collect();
    let after = upstream("web", 80, &[2, 3]);
    let second = Tables::next(snapshot(&[&after], &[]), Some(&first));
    assert!(Arc::ptr_eq(endpoint(&second, &after, 0), &stays));
    assert_eq!(endpoint(&second, &after, 1).load(), 0);
}

#[test]
fn the_balancers_state_survives() {
    let before = upstream("web", 80, &[1, 2, 3]);
    let first = Tables::next(snapshot(&[&before], &[]), None);
    assert_eq!([0, 1].map(|_| turn(first.group(&before).unwrap())), [0, 1]);
    let after = upstream("web", 80, &[1, 2, 3, 4]);
    let second = Tables::next(snapshot(&[&after], &[]), Some(&first));
    assert_eq!(turn(second.group(&after).unwrap()), 2);
}

#[test]
fn ports_of_one_service_share_endpoints_and_two_services_do_not() {
    let (http, admin) = (upstream("web", 80, &[1]), upstream("web", 81, &[1]));
    let other = upstream("api", 80, &[1]);
    let tables = Tables::next(snapshot(&[&http, &admin, &other], &[]), None);
    assert!(Arc::ptr_eq(endpoint(&tables, &http, 0), endpoint(&tables, &admin, 0)));
    let service = |upstream| &tables.group(upstream).unwrap().service;
    assert!(Arc::ptr_eq(service(&http), service(&admin)));
    assert!(!Arc::ptr_eq(endpoint(&tables, &http, 0), endpoint(&tables, &other, 0)));
    assert!(!Arc::ptr_eq(service(&http), service(&other)));
    // a port that comes later joins them, although the others' groups stay as they are
    let metrics = upstream("web", 82, &[1]);
    let next = Tables::next(snapshot(&[&http, &metrics], &[]), Some(&tables));
    assert!(Arc::ptr_eq(endpoint(&next, &metrics, 0), endpoint(&tables, &http, 0)));
}

#[test]
fn what_is_gone_and_unused_is_dropped_and_what_is_in_use_is_found_again() {
    let web = upstream("web", 80, &[1, 2]);
    let first = Tables::next(snapshot(&[&web], &[]), None);
    let group = first.group(&web).unwrap();
    let (service, [idle, busy]) = (
        Arc::downgrade(&group.service),
        [0, 1].map(|index| Arc::downgrade(&group.endpoints[index])),
    );
    let in_use = (
        Arc::clone(&group.service),
        InFlight::request(&group.endpoints[1], None, Instant::now()).unwrap(),
    );
    let second = Tables::next(snapshot(&[], &[]), Some(&first));
    drop(first);
    assert!(idle.upgrade().is_none(), "nothing uses it");
    // it comes back while a request is still under way
    let again = upstream("web", 80, &[1, 2]);
    let third = Tables::next(snapshot(&[&again], &[]), Some(&second));
    assert!(Arc::ptr_eq(endpoint(&third, &again, 1), in_use.1.endpoint()));
    assert_eq!(endpoint(&third, &again, 1).load(), 1);
    drop((second, third, in_use));
    assert!(service.upgrade().is_none() && busy.upgrade().is_none());
}

#[test]
fn names_of_services_that_are_gone_are_forgotten() {
    let mut tables = Tables::next(snapshot(&[], &[]), None);
    for number in 0..50 {
        let service = upstream(&format!("web-{number}"), 80, &[1]);
        tables = Tables::next(snapshot(&[&service], &[]), Some(&tables));
    }
    tables = Tables::next(snapshot(&[], &[]), Some(&tables));
    tables = Tables::next(snapshot(&[], &[]), Some(&tables));
    assert_eq!(tables.services.len(), 0);
}

/// The same upstream with a breaker that one failure opens and the next attempt tries again, or without.
fn governed(upstream: &Upstream, breaks: bool) -> Arc<Upstream> {
    let mut upstream = upstream.clone();
    upstream.policy = breaks.then(|| {
        Arc::new(AppliedPolicy {
            name: upstream.service.clone(),
            generation: 1,
            spec: PolicySpec {
                circuit_breaker: Some(CircuitBreaker {
                    failure_threshold: 1,
                    success_threshold: 1,
                    timeout: Duration::ZERO,
                    half_open_requests: 1,
                    failure_on: BTreeSet::new(),
                    max_ejection_percent: 100,
                    when_all_open: WhenAllOpen::FailFast,
                }),
                ..PolicySpec::default()
            },
        })
    });
    Arc::new(upstream)
}

fn open(group: &Group, index: usize) {
    let settings = group.upstream.spec().and_then(|spec| spec.circuit_breaker.as_ref());
    let (breaker, now) = (&group.endpoints[index].breaker, Instant::now());
    let admission = breaker.admit(settings, now).unwrap();
    breaker
        .settle(settings, admission, Verdict::Failure, now, || true)
        .unwrap();
}

#[test]
fn an_endpoint_on_trial_counts_as_ejected() {
    let web = governed(&upstream("web", 80, &[1, 2, 3]), true);
    let tables = Tables::next(snapshot(&[&web], &[]), None);
    let group = tables.group(&web).unwrap();
    assert!(group.may_eject(50));
    open(group, 0);
    assert!(!group.may_eject(50) && group.may_eject(67));
    let settings = web.spec().and_then(|spec| spec.circuit_breaker.as_ref());
    let trial = group.endpoints[0].breaker.admit(settings, Instant::now());
    assert_eq!(group.endpoints[0].breaker.state(), State::HalfOpen);
    assert!(!group.may_eject(50) && group.may_eject(67), "half open");
    drop(trial);
}

#[test]
fn what_was_open_closes_with_its_policy_and_is_told() {
    let before = governed(&upstream("web", 80, &[1, 2, 3]), true);
    let first = Tables::next(snapshot(&[&before], &[]), None);
    open(first.group(&before).unwrap(), 1);
    let told = |next: &Tables| {
        let mut told = Vec::new();
        next.forgive(&first, |upstream, endpoint, transition| {
            told.push((upstream.service.clone(), endpoint, transition));
        });
        told
    };
    assert!(told(&first).is_empty());
    let stays = governed(&upstream("web", 80, &[1, 2]), true);
    assert!(told(&Tables::next(snapshot(&[&stays], &[]), Some(&first))).is_empty());
    let gone = governed(&before, false);
    let second = Tables::next(snapshot(&[&gone], &[]), Some(&first));
    let transition = Transition {
        from: State::Open,
        to: State::Closed,
    };
    let address = before.endpoints[1].address;
    assert_eq!(told(&second), [(before.service.clone(), address, transition)]);
    assert_eq!(endpoint(&second, &gone, 1).breaker.state(), State::Closed);
    assert!(told(&second).is_empty(), "once");
}
