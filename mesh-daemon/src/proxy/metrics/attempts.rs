//! Of attempts at endpoints: how they ended, what was tried again, which circuit breakers opened.

use std::{net::SocketAddr, time::Duration};

use prometheus::{HistogramOpts, HistogramVec, IntCounter, IntCounterVec, Registry};

use super::counter;
use crate::{
    model::{AttemptEnd, Upstream},
    proxy::{
        bounds::DURATION_BUCKETS,
        breaker::{State, Transition},
    },
    telemetry::register,
};

/// How one attempt at an endpoint ended.
pub(in crate::proxy) struct Tried<'a> {
    pub(in crate::proxy) upstream: &'a Upstream,
    pub(in crate::proxy) endpoint: SocketAddr,
    /// None for an opaque connection that was accepted.
    pub(in crate::proxy) end: Option<AttemptEnd>,
    pub(in crate::proxy) transition: Option<Transition>,
}

/// What became of a retry that was wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::proxy) enum Retried {
    /// It was made.
    Sent,
    /// The budget has no room: the last answer is the answer.
    BudgetExhausted,
    /// No other endpoint may be asked now.
    NoEndpoint,
    /// The request's timeout would have passed before it.
    NoTime,
    /// More of the body has gone out than is kept.
    BodyTooLarge,
}

impl Retried {
    fn name(self) -> &'static str {
        match self {
            Self::Sent => "sent",
            Self::BudgetExhausted => "budget_exhausted",
            Self::NoEndpoint => "no_endpoint",
            Self::NoTime => "no_time",
            Self::BodyTooLarge => "body_too_large",
        }
    }
}

/// What a label says of the end of an attempt.
fn end_word(end: Option<AttemptEnd>) -> &'static str {
    match end {
        None => "connected",
        Some(AttemptEnd::ConnectFailure) => "connect_failure",
        Some(AttemptEnd::Reset) => "reset",
        Some(AttemptEnd::Timeout) => "timeout",
        Some(AttemptEnd::Answered { grpc: Some(1..), .. }) => "grpc_error",
        Some(AttemptEnd::Answered { status, .. }) => match status {
            100..200 => "1xx",
            200..300 => "2xx",
            300..400 => "3xx",
            400..500 => "4xx",
            _ => "5xx",
        },
    }
}

/// Of attempts at endpoints, by the Service that they belong to.
pub(in crate::proxy) struct Attempts {
    requests: IntCounterVec,
    durations: HistogramVec,
    retries: IntCounterVec,
    ejections: IntCounterVec,
    opaque_on_routed_port: IntCounter,
    hash_key_absent: IntCounter,
}

const UPSTREAM: [&str; 3] = ["upstream_service", "upstream_namespace", "upstream_port"];

impl Attempts {
    pub(super) fn new(registry: &Registry) -> Self {
        let durations = HistogramOpts::new(
            "weft_upstream_duration_seconds",
            "Time of one attempt, from its endpoint's choice to its end: the answer's last byte, or its head where a retry is wanted.",
        )
        .buckets(DURATION_BUCKETS.to_vec());
        Self {
            requests: counter(
                registry,
                "weft_upstream_requests_total",
                "Attempts at endpoints of a Service by how they ended.",
                &[&UPSTREAM[..], &["result"]].concat(),
            ),
            durations: register(registry, HistogramVec::new(durations, &UPSTREAM)),
            retries: counter(
                registry,
                "weft_retries_total",
                "Retries that were wanted, by what the attempt before ended with, and what became of them.",
                &[&UPSTREAM[..], &["reason", "result"]].concat(),
            ),
            ejections: counter(
                registry,
                "weft_ejections_total",
                "Times that a circuit breaker opened, by what its last failure was.",
                &[&UPSTREAM[..], &["reason"]].concat(),
            ),
            opaque_on_routed_port: plain(
                registry,
                "weft_opaque_on_routed_port_total",
                "Connections to routed ports that do not speak HTTP; they go to the Service's own endpoints.",
            ),
            hash_key_absent: plain(
                registry,
                "weft_hash_key_absent_total",
                "Requests and connections without what their balancer hashes; they are balanced at random.",
            ),
        }
    }

    /// One ended.
    pub(in crate::proxy) fn ended(&self, tried: &Tried<'_>) {
        let port = tried.upstream.port.to_string();
        let labels = upstream_labels(tried.upstream, &port);
        let word = end_word(tried.end);
        self.requests.with_label_values(&[&labels[..], &[word]].concat()).inc();
        if let Some(transition) = tried.transition {
            self.moved(tried.upstream, tried.endpoint, transition, word);
        }
    }

    /// One that is no opaque connection took so long.
    pub(in crate::proxy) fn took(&self, upstream: &Upstream, took: Duration) {
        let port = upstream.port.to_string();
        let labels = upstream_labels(upstream, &port);
        self.durations.with_label_values(&labels).observe(took.as_secs_f64());
    }

    /// A circuit breaker changed its state.
    pub(in crate::proxy) fn moved(
        &self,
        upstream: &Upstream,
        endpoint: SocketAddr,
        transition: Transition,
        reason: &str,
    ) {
        let Transition { from, to } = transition;
        tracing::info!(service = %upstream.service, %endpoint, from = from.name(), to = to.name(), reason, "circuit breaker");
        if to == State::Open {
            let port = upstream.port.to_string();
            let labels = upstream_labels(upstream, &port);
            self.ejections
                .with_label_values(&[&labels[..], &[reason]].concat())
                .inc();
        }
    }

    /// A connection to a routed port does not speak HTTP.
    pub(in crate::proxy) fn opaque_on_routed_port(&self) {
        self.opaque_on_routed_port.inc();
    }

    /// A request without what its balancer hashes.
    pub(in crate::proxy) fn hash_key_absent(&self) {
        self.hash_key_absent.inc();
    }

    /// A retry was wanted.
    pub(in crate::proxy) fn retried(&self, upstream: &Upstream, end: AttemptEnd, retried: Retried) {
        let port = upstream.port.to_string();
        let labels = upstream_labels(upstream, &port);
        let own = [end_word(Some(end)), retried.name()];
        self.retries.with_label_values(&[&labels[..], &own].concat()).inc();
    }
}

fn plain(registry: &Registry, name: &str, help: &str) -> IntCounter {
    register(registry, IntCounter::new(name, help))
}

fn upstream_labels<'a>(upstream: &'a Upstream, port: &'a str) -> [&'a str; 3] {
    [&upstream.service.name, &upstream.service.namespace, port]
}

#[cfg(test)]
mod tests;
