//! What becomes of attempts, as it is scraped.

use std::collections::BTreeMap;

use super::*;
use crate::{
    ids::ObjectRef,
    model::{AppProtocol, Family},
};

fn upstream() -> Upstream {
    Upstream {
        service: ObjectRef::new("shop", "web"),
        port: 80,
        family: Family::V4,
        app_protocol: AppProtocol::Detect,
        endpoints: Vec::new(),
        policy: None,
        settings: std::sync::Arc::default(),
    }
}

fn answered(status: u16, grpc: Option<u8>) -> Option<AttemptEnd> {
    Some(AttemptEnd::Answered { status, grpc })
}

/// The series of one name: the values of its labels but those that say whose they are, and the count.
fn counts(registry: &Registry, name: &str) -> BTreeMap<String, f64> {
    let families = registry.gather();
    let own = families.iter().filter(|family| family.name() == name);
    own.flat_map(|family| family.get_metric())
        .map(|metric| {
            let labels = metric.get_label().iter();
            let own = labels.filter(|label| !UPSTREAM.contains(&label.name()));
            let words: Vec<_> = own.map(|label| label.value()).collect();
            (words.join(" "), metric.get_counter().get_value())
        })
        .collect()
}

fn expected<const N: usize>(counts: [(&str, f64); N]) -> BTreeMap<String, f64> {
    counts.map(|(words, count)| (words.to_owned(), count)).into()
}

/// Attempts that ended so.
fn ended(attempts: &Attempts, ends: &[Option<AttemptEnd>]) {
    for end in ends {
        attempts.ended(&Tried {
            upstream: &upstream(),
            endpoint: SocketAddr::from(([10, 0, 0, 1], 80)),
            end: *end,
            transition: None,
        });
    }
}

#[test]
fn each_end_has_its_word() {
    let registry = Registry::new();
    ended(
        &Attempts::new(&registry),
        &[
            None,
            Some(AttemptEnd::ConnectFailure),
            Some(AttemptEnd::Reset),
            Some(AttemptEnd::Timeout),
            answered(101, None),
            answered(200, None),
            // a call that went well is no error
            answered(299, Some(0)),
            answered(304, None),
            answered(404, None),
            answered(499, None),
            answered(500, None),
            answered(599, None),
            answered(200, Some(14)),
            answered(200, Some(1)),
            // what a server says of a call holds, whatever the status beside it
            answered(503, Some(2)),
        ],
    );
    assert_eq!(
        counts(&registry, "weft_upstream_requests_total"),
        expected([
            ("connected", 1.0),
            ("connect_failure", 1.0),
            ("reset", 1.0),
            ("timeout", 1.0),
            ("1xx", 1.0),
            ("2xx", 2.0),
            ("3xx", 1.0),
            ("4xx", 2.0),
            ("5xx", 2.0),
            ("grpc_error", 3.0),
        ])
    );
}

#[test]
fn what_became_of_retries_has_its_word() {
    let registry = Registry::new();
    let attempts = Attempts::new(&registry);
    for (end, retried) in [
        (AttemptEnd::Reset, Retried::Sent),
        (AttemptEnd::Reset, Retried::Sent),
        (AttemptEnd::Timeout, Retried::BudgetExhausted),
        (AttemptEnd::ConnectFailure, Retried::NoEndpoint),
        (AttemptEnd::Timeout, Retried::NoTime),
        (AttemptEnd::Reset, Retried::BodyTooLarge),
    ] {
        attempts.retried(&upstream(), end, retried);
    }
    assert_eq!(
        counts(&registry, "weft_retries_total"),
        expected([
            ("reset sent", 2.0),
            ("timeout budget_exhausted", 1.0),
            ("connect_failure no_endpoint", 1.0),
            ("timeout no_time", 1.0),
            ("reset body_too_large", 1.0),
        ])
    );
}

/// How many times were observed, and their sum.
fn observed(registry: &Registry) -> (u64, f64) {
    let families = registry.gather();
    let mut own = families
        .iter()
        .filter(|family| family.name() == "weft_upstream_duration_seconds")
        .flat_map(|family| family.get_metric());
    let Some(metric) = own.next() else { return (0, 0.0) };
    let histogram = metric.get_histogram();
    (histogram.get_sample_count(), histogram.get_sample_sum())
}

#[test]
fn the_time_of_an_attempt_is_observed_apart_from_its_end() {
    let registry = Registry::new();
    let attempts = Attempts::new(&registry);
    ended(&attempts, &[None, answered(200, None)]);
    assert_eq!(observed(&registry).0, 0);
    // a quarter is exact in binary
    attempts.took(&upstream(), Duration::from_millis(250));
    attempts.took(&upstream(), Duration::from_millis(250));
    assert_eq!(observed(&registry), (2, 0.5));
}
