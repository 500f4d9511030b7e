//! Live state as people and scrapers see it.

use std::{collections::BTreeSet, time::Duration};

use prometheus::Registry;

use super::*;
use crate::{
    ids::Generation,
    model::{
        AppProtocol, AppliedPolicy, CircuitBreaker, Content, FailureClass, LoadBalancer, PolicySpec, Snapshot,
        Upstream, WhenAllOpen, Workload,
    },
    proxy::{Borders, Ear, Options, RoundTrip, breaker::Verdict, live::InFlight},
};

/// Heard of one endpoint.
struct Hears(SocketAddr);

impl Ear for Hears {
    fn round_trip(&self, endpoint: SocketAddr) -> Option<RoundTrip> {
        (endpoint == self.0).then_some(RoundTrip {
            smoothed: Duration::from_micros(500),
            retransmits: 3,
        })
    }
}

fn address(last: u8) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, last], 8080))
}

fn breaker_settings() -> CircuitBreaker {
    CircuitBreaker {
        failure_threshold: 1,
        success_threshold: 1,
        timeout: Duration::from_secs(30),
        half_open_requests: 1,
        failure_on: BTreeSet::from([FailureClass::Http5xx]),
        max_ejection_percent: 100,
        when_all_open: WhenAllOpen::FailFast,
    }
}

fn upstream(name: &str, spec: Option<PolicySpec>) -> Arc<Upstream> {
    let endpoint = |last| UpstreamEndpoint {
        address: address(last),
        workload: (last == 1).then(|| {
            Arc::new(Workload {
                pod: ObjectRef::new("shop", "web-1"),
                uid: "u".to_owned(),
                name: "web".to_owned(),
                node: Some(NodeName("n1".to_owned())),
                weight: 5,
                interface: None,
            })
        }),
    };
    Arc::new(Upstream {
        service: ObjectRef::new("shop", name),
        port: 80,
        family: Family::V4,
        app_protocol: AppProtocol::Detect,
        endpoints: [1, 2].map(endpoint).into(),
        policy: spec.map(|spec| {
            Arc::new(AppliedPolicy {
                name: ObjectRef::new("shop", "p"),
                generation: 1,
                spec,
            })
        }),
        settings: Arc::default(),
    })
}

fn snapshot(upstreams: &[&Arc<Upstream>]) -> Arc<Snapshot> {
    let at = |number: usize| SocketAddr::from(([10, 96, 0, 1], u16::try_from(number).unwrap()));
    let upstreams = upstreams.iter().enumerate();
    Arc::new(Snapshot {
        generation: Generation(7),
        content: Content {
            upstreams: upstreams
                .map(|(number, upstream)| (at(number), Arc::clone(upstream)))
                .collect(),
            ..Content::default()
        },
    })
}

fn shared(registry: &Registry) -> Arc<Shared> {
    let options = Options {
        marks: mesh_common::settings::Settings::DEFAULT_MARKS,
        transparent: false,
    };
    let borders = Borders {
        ear: Box::new(Hears(address(1))),
        ..Borders::default()
    };
    Shared::with_borders(registry, options, borders)
}

fn breaks() -> Option<PolicySpec> {
    Some(PolicySpec {
        load_balancer: Some(LoadBalancer::PeakEwma),
        circuit_breaker: Some(breaker_settings()),
        ..PolicySpec::default()
    })
}

/// The live state of an endpoint of a Service's only port.
fn live(shared: &Shared, upstream: &Arc<Upstream>, index: usize) -> Arc<EndpointLive> {
    Arc::clone(&shared.tables.load().group(upstream).unwrap().endpoints[index])
}

fn open(endpoint: &EndpointLive) {
    let settings = breaker_settings();
    let now = Instant::now();
    let admission = endpoint.breaker.admit(Some(&settings), now).unwrap();
    let moved = endpoint
        .breaker
        .settle(Some(&settings), admission, Verdict::Failure, now, || true);
    assert!(moved.is_some());
}

#[test]
fn what_is_known_of_endpoints_is_told_and_what_is_not_is_none() {
    let shared = shared(&Registry::new());
    let web = upstream("web", breaks());
    shared.publish(snapshot(&[&web]));
    open(&live(&shared, &web, 1));
    let busy = live(&shared, &web, 0);
    let now = Instant::now();
    let mut request = InFlight::request(&busy, None, now).unwrap();
    request.answered(now + Duration::from_millis(4));

    let view = shared.endpoints(&web.service).unwrap();
    assert_eq!((view.snapshot, view.ports.len()), (7, 1));
    let port = &view.ports[0];
    assert_eq!(
        (port.port, port.family.as_str(), port.load_balancer.as_str()),
        (80, "IPv4", "PeakEwma")
    );
    let [first, second] = port.endpoints.as_slice() else {
        panic!("{port:?}");
    };
    assert_eq!(first.pod, Some(ObjectRef::new("shop", "web-1")));
    assert_eq!(
        (first.weight, first.requests_in_flight, first.state.as_str()),
        (5, 1, "ready")
    );
    assert_eq!((first.round_trip_ms, first.retransmits), (Some(0.5), Some(3)));
    let latency = first.latency_ms.unwrap();
    assert!((3.99..4.01).contains(&latency), "as it was measured: {latency}");
    assert!(first.latency_age_ms.is_some_and(|age| age >= 0.0), "{first:?}");
    assert_eq!(
        (
            &second.pod,
            second.round_trip_ms,
            second.latency_ms,
            second.latency_age_ms
        ),
        (&None, None, None, None)
    );
    assert_eq!(second.state, "ejected");
    let breaker = second.breaker.as_ref().unwrap();
    assert_eq!(breaker.state, "open");
    let left = breaker.open_for_ms.unwrap();
    assert!(left > 0.0 && left <= 30_000.0, "{left}");
}

#[test]
fn what_is_under_way_is_told_of_the_service_and_of_each_endpoint() {
    let shared = shared(&Registry::new());
    let web = upstream("web", breaks());
    shared.publish(snapshot(&[&web]));
    let group = Arc::clone(shared.tables.load().group(&web).unwrap());
    // each count is another one, so that none can stand for another
    let gauge_of = |gauge: &crate::proxy::limits::Gauge, count: usize| -> Vec<_> {
        (0..count).map(|_| gauge.try_acquire(None).unwrap()).collect()
    };
    let endpoint = &group.endpoints[0];
    let _opaque = InFlight::connection(endpoint).unwrap();
    let _held = [
        gauge_of(&group.service.requests, 5),
        gauge_of(&group.service.connections, 4),
        gauge_of(&endpoint.requests, 3),
        gauge_of(&endpoint.connections, 2),
    ];
    let view = shared.endpoints(&web.service).unwrap();
    assert_eq!((view.requests_in_flight, view.connections), (5, 4));
    let [first, second] = view.ports[0].endpoints.as_slice() else {
        panic!("{view:?}");
    };
    assert_eq!(
        (first.requests_in_flight, first.connections, first.opaque_connections),
        (3, 2, 1)
    );
    assert_eq!(
        (second.requests_in_flight, second.connections, second.opaque_connections),
        (0, 0, 0)
    );
}

#[test]
fn an_endpoint_whose_breaker_is_half_open_is_on_trial() {
    let registry = Registry::new();
    let shared = shared(&registry);
    let web = upstream("web", breaks());
    shared.publish(snapshot(&[&web]));
    let tried = live(&shared, &web, 1);
    open(&tried);
    let later = Instant::now() + breaker_settings().timeout;
    let trial = tried.breaker.admit(Some(&breaker_settings()), later).unwrap();
    assert!(trial.is_trial());
    let view = shared.endpoints(&web.service).unwrap();
    let endpoint = &view.ports[0].endpoints[1];
    let breaker = endpoint.breaker.as_ref().unwrap();
    assert_eq!(
        (endpoint.state.as_str(), breaker.state.as_str(), breaker.open_for_ms),
        ("trial", "half_open", None)
    );
    assert!(
        gauges(&registry).contains(&"circuit_breaker_state{web,10.0.0.2:8080} 1".to_owned()),
        "{:?}",
        gauges(&registry)
    );
}

#[test]
fn a_service_that_is_not_there_is_an_error() {
    let shared = shared(&Registry::new());
    let error = shared.endpoints(&ObjectRef::new("shop", "web")).unwrap_err();
    assert_eq!(
        error.to_string(),
        "there is no Service shop/web that this node knows; it knows none"
    );
}

/// `name{service,endpoint} value` of the room's live gauges.
fn gauges(registry: &Registry) -> Vec<String> {
    let families = registry.gather();
    let own = families
        .iter()
        .filter(|family| ["weft_circuit_breaker_state", "weft_endpoint_requests_in_flight"].contains(&family.name()));
    let lines = own.flat_map(|family| {
        family.get_metric().iter().map(|metric| {
            let label = |name: &str| {
                let mut labels = metric.get_label().iter();
                labels.find(|label| label.name() == name).unwrap().value().to_owned()
            };
            assert_eq!(label("upstream_namespace"), "shop");
            let name = family.name().trim_start_matches("weft_");
            format!(
                "{name}{{{},{}}} {}",
                label("upstream_service"),
                label("endpoint"),
                metric.get_gauge().get_value()
            )
        })
    });
    let mut lines: Vec<_> = lines.collect();
    lines.sort();
    lines
}

#[test]
fn breakers_are_scraped_as_they_are_and_go_with_their_policy() {
    let registry = Registry::new();
    let shared = shared(&registry);
    let (web, plain) = (upstream("web", breaks()), upstream("plain", None));
    shared.publish(snapshot(&[&web, &plain]));
    open(&live(&shared, &web, 1));
    let _request = InFlight::request(&live(&shared, &web, 0), None, Instant::now()).unwrap();
    assert_eq!(
        gauges(&registry),
        [
            "circuit_breaker_state{web,10.0.0.1:8080} 0",
            "circuit_breaker_state{web,10.0.0.2:8080} 2",
            "endpoint_requests_in_flight{web,10.0.0.1:8080} 1",
            "endpoint_requests_in_flight{web,10.0.0.2:8080} 0",
        ]
    );
    shared.publish(snapshot(&[&upstream("web", None), &plain]));
    assert!(gauges(&registry).is_empty(), "no stale series");
}
