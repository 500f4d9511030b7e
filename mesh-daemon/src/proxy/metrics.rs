//! The data path's metrics.

use std::{io::ErrorKind, net::SocketAddr, time::Duration};

use prometheus::{HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, Opts, Registry};

use super::{
    bounds::DURATION_BUCKETS,
    breaker::{State, Transition},
    copy,
    dial::OwnReason,
    outcome::{Outcome, Parties},
};
use crate::{
    model::{AttemptEnd, Upstream, Workload},
    telemetry::register,
};

const PARTIES: [&str; 7] = [
    "reporter",
    "source_workload",
    "source_namespace",
    "destination_workload",
    "destination_namespace",
    "destination_service",
    "destination_service_namespace",
];

/// Handles of all metrics of the room.
pub(super) struct Metrics {
    requests: IntCounterVec,
    request_outcomes: IntCounterVec,
    durations: HistogramVec,
    tcp: Tcp,
    source_not_preserved: IntCounterVec,
    connect_failures: IntCounterVec,
    accept_failures: IntCounterVec,
    limits: IntCounterVec,
    upstream: UpstreamMetrics,
    opaque_on_routed_port: IntCounter,
    hash_key_absent: IntCounter,
    stale: IntCounterVec,
    /// Connections that were dialled to a listener itself.
    pub not_captured: IntCounter,
    /// Opaque connections that are open.
    pub connections_open: IntGauge,
    /// Requests that are not yet answered in full.
    pub requests_open: IntGauge,
    /// Idle upstream connections in all workers' pools.
    pub pool_idle: IntGauge,
    /// HTTP/2 upstream connections in all workers' pools, idle or not.
    pub pool_http2: IntGauge,
}

impl Metrics {
    /// Registers all.
    pub(super) fn new(registry: &Registry) -> Self {
        let counter = |name: &str, help: &str, parties: &[&str], own: &[&str]| {
            counter(registry, name, help, &[parties, own].concat())
        };
        let gauge = |name: &str, help: &str| register(registry, IntGauge::new(name, help));
        Self {
            requests: counter(
                "weft_requests_total",
                "HTTP requests by parties, protocol and status (a word if none).",
                &PARTIES,
                &["protocol", "code"],
            ),
            request_outcomes: counter(
                "weft_request_outcomes_total",
                "HTTP requests by how they ended.",
                &[],
                &["outcome"],
            ),
            durations: durations(registry),
            tcp: Tcp::new(registry),
            source_not_preserved: counter(
                "weft_source_not_preserved_total",
                "Dials from the node's own address instead of the client's, by reason.",
                &[],
                &["reason"],
            ),
            connect_failures: counter(
                "weft_connect_failures_total",
                "Dials that an endpoint did not accept.",
                &[],
                &["reason"],
            ),
            accept_failures: counter(
                "weft_accept_failures_total",
                "Failed accepts by reason.",
                &[],
                &["reason"],
            ),
            limits: counter(
                "weft_proxy_limits_total",
                "Times that a bound of the data path was reached.",
                &[],
                &["limit"],
            ),
            upstream: UpstreamMetrics::new(registry),
            opaque_on_routed_port: register(
                registry,
                IntCounter::new(
                    "weft_opaque_on_routed_port_total",
                    "Connections to routed ports that do not speak HTTP; they go to the Service's own endpoints.",
                ),
            ),
            hash_key_absent: register(
                registry,
                IntCounter::new(
                    "weft_hash_key_absent_total",
                    "Requests and connections without what their balancer hashes; they are balanced at random.",
                ),
            ),
            stale: counter(
                "weft_pool_stale_total",
                "Pooled connections found closed before a byte was sent, replaced unseen.",
                &[],
                &["found"],
            ),
            not_captured: register(
                registry,
                IntCounter::new(
                    "weft_not_captured_total",
                    "Connections that somebody on the node dialled to a listener itself; they are reset.",
                ),
            ),
            connections_open: gauge("weft_tcp_connections_open", "Opaque connections that are open."),
            requests_open: gauge("weft_requests_open", "HTTP requests that are not yet answered in full."),
            pool_idle: gauge(
                "weft_pool_idle_connections",
                "Idle upstream connections kept for reuse.",
            ),
            pool_http2: gauge(
                "weft_pool_http2_connections",
                "HTTP/2 upstream connections that are shared, idle or not.",
            ),
        }
    }

    /// A request ended.
    pub(super) fn request(
        &self,
        parties: &Parties,
        protocol: &str,
        status: Option<u16>,
        outcome: Outcome,
        took: Duration,
    ) {
        let labels = labels(parties);
        let code = status.map(|status| status.to_string());
        let code = code.as_deref().unwrap_or(outcome.name());
        self.requests
            .with_label_values(&[&labels[..], &[protocol, code]].concat())
            .inc();
        self.durations
            .with_label_values(&[&labels[..], &[protocol]].concat())
            .observe(took.as_secs_f64());
        self.request_outcomes.with_label_values(&[outcome.name()]).inc();
    }

    /// An opaque connection reached its endpoint.
    pub(super) fn opened(&self, parties: &Parties) {
        self.tcp.opened.with_label_values(&labels(parties)).inc();
    }

    /// An opaque connection ended.
    pub(super) fn closed(&self, parties: &Parties, outcome: Outcome) {
        self.tcp
            .closed
            .with_label_values(&[&labels(parties)[..], &[outcome.name()]].concat())
            .inc();
    }

    /// The byte counters of an opaque connection.
    pub(super) fn bytes(&self, parties: &Parties) -> copy::Bytes {
        let labels = labels(parties);
        copy::Bytes {
            sent: copy::Counter::new(self.tcp.sent.with_label_values(&labels)),
            received: copy::Counter::new(self.tcp.received.with_label_values(&labels)),
        }
    }

    /// A dial from the node's own address.
    pub(super) fn source_not_preserved(&self, reason: OwnReason) {
        self.source_not_preserved.with_label_values(&[reason.name()]).inc();
    }

    /// An attempt at an endpoint ended.
    pub(super) fn attempted(&self, tried: &Tried<'_>) {
        self.upstream.attempted(tried);
    }

    /// A circuit breaker changed its state without an attempt's end.
    pub(super) fn breaker_moved(
        &self,
        upstream: &Upstream,
        endpoint: SocketAddr,
        transition: Transition,
        reason: &str,
    ) {
        self.upstream.moved(upstream, endpoint, transition, reason);
    }

    /// A retry was wanted.
    pub(super) fn retried(&self, upstream: Option<&Upstream>, end: AttemptEnd, retried: Retried) {
        self.upstream.retried(upstream, end, retried);
    }

    /// A connection to a routed port does not speak HTTP.
    pub(super) fn opaque_on_routed_port(&self) {
        self.opaque_on_routed_port.inc();
    }

    /// A request without what its balancer hashes.
    pub(super) fn hash_key_absent(&self) {
        self.hash_key_absent.inc();
    }

    /// An endpoint did not accept.
    pub(super) fn connect_failed(&self, kind: ErrorKind) {
        self.connect_failures.with_label_values(&[word(kind)]).inc();
    }

    /// The kernel gave no connection.
    pub(super) fn accept_failed(&self, kind: ErrorKind) {
        self.accept_failures.with_label_values(&[word(kind)]).inc();
    }

    /// A bound was reached.
    pub(super) fn limit_reached(&self, limit: &str) {
        self.limits.with_label_values(&[limit]).inc();
    }

    /// A pooled connection was found closed.
    pub(super) fn stale(&self, found: &str) {
        self.stale.with_label_values(&[found]).inc();
    }
}

/// How one attempt at an endpoint ended.
pub(super) struct Tried<'a> {
    pub(super) upstream: &'a Upstream,
    pub(super) endpoint: SocketAddr,
    /// None for an opaque connection that was accepted.
    pub(super) end: Option<AttemptEnd>,
    pub(super) transition: Option<Transition>,
    pub(super) took: Duration,
}

/// What became of a retry that was wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Retried {
    /// It was made.
    Sent,
    /// The budget has no room: the last answer is the answer.
    BudgetExhausted,
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
struct UpstreamMetrics {
    requests: IntCounterVec,
    durations: HistogramVec,
    retries: IntCounterVec,
    ejections: IntCounterVec,
}

const UPSTREAM: [&str; 3] = ["upstream_service", "upstream_namespace", "upstream_port"];

impl UpstreamMetrics {
    fn new(registry: &Registry) -> Self {
        let durations = HistogramOpts::new(
            "weft_upstream_duration_seconds",
            "Time of one attempt, from its endpoint's choice to its end.",
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
        }
    }

    fn attempted(&self, tried: &Tried<'_>) {
        let port = tried.upstream.port.to_string();
        let labels = upstream_labels(tried.upstream, &port);
        let word = end_word(tried.end);
        self.requests.with_label_values(&[&labels[..], &[word]].concat()).inc();
        if tried.end.is_some() {
            self.durations
                .with_label_values(&labels)
                .observe(tried.took.as_secs_f64());
        }
        if let Some(transition) = tried.transition {
            self.moved(tried.upstream, tried.endpoint, transition, word);
        }
    }

    fn moved(&self, upstream: &Upstream, endpoint: SocketAddr, transition: Transition, reason: &str) {
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

    fn retried(&self, upstream: Option<&Upstream>, end: AttemptEnd, retried: Retried) {
        let Some(upstream) = upstream else { return };
        let port = upstream.port.to_string();
        let labels = upstream_labels(upstream, &port);
        let own = [end_word(Some(end)), retried.name()];
        self.retries.with_label_values(&[&labels[..], &own].concat()).inc();
    }
}

fn upstream_labels<'a>(upstream: &'a Upstream, port: &'a str) -> [&'a str; 3] {
    [&upstream.service.name, &upstream.service.namespace, port]
}

/// Counters of opaque connections.
struct Tcp {
    opened: IntCounterVec,
    closed: IntCounterVec,
    sent: IntCounterVec,
    received: IntCounterVec,
}

impl Tcp {
    fn new(registry: &Registry) -> Self {
        let counter = |name: &str, help: &str, parties: &[&str], own: &[&str]| {
            counter(registry, name, help, &[parties, own].concat())
        };
        Self {
            opened: counter(
                "weft_tcp_connections_opened_total",
                "Opaque connections that reached an endpoint.",
                &PARTIES,
                &[],
            ),
            closed: counter(
                "weft_tcp_connections_closed_total",
                "Opaque connections by how they ended.",
                &PARTIES,
                &["outcome"],
            ),
            sent: counter(
                "weft_tcp_sent_bytes_total",
                "Bytes from clients to endpoints of opaque connections.",
                &PARTIES,
                &[],
            ),
            received: counter(
                "weft_tcp_received_bytes_total",
                "Bytes from endpoints to clients of opaque connections.",
                &PARTIES,
                &[],
            ),
        }
    }
}

fn durations(registry: &Registry) -> HistogramVec {
    let options = HistogramOpts::new(
        "weft_request_duration_seconds",
        "Time from a request's head to its answer's last byte.",
    )
    .buckets(DURATION_BUCKETS.to_vec());
    let labels = [&PARTIES[..], &["protocol"]].concat();
    register(registry, HistogramVec::new(options, &labels))
}

fn counter(registry: &Registry, name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
    register(registry, IntCounterVec::new(Opts::new(name, help), labels))
}

fn labels(parties: &Parties) -> [&str; 7] {
    let Parties {
        source,
        destination,
        service,
    } = parties;
    let (source, source_namespace) = names(source.as_deref());
    let (destination, destination_namespace) = names(destination.as_deref());
    let (service, service_namespace) = service.as_ref().map_or((UNKNOWN, UNKNOWN), |upstream| {
        (&*upstream.service.name, &*upstream.service.namespace)
    });
    [
        "source",
        source,
        source_namespace,
        destination,
        destination_namespace,
        service,
        service_namespace,
    ]
}

/// What a label says where nothing is known.
const UNKNOWN: &str = "unknown";

fn names(workload: Option<&Workload>) -> (&str, &str) {
    workload.map_or((UNKNOWN, UNKNOWN), |workload| {
        (&*workload.name, &*workload.pod.namespace)
    })
}

fn word(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::ConnectionRefused => "refused",
        ErrorKind::ConnectionReset => "reset",
        ErrorKind::TimedOut => "timeout",
        ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable => "unreachable",
        ErrorKind::AddrInUse | ErrorKind::AddrNotAvailable => "no_local_port",
        ErrorKind::PermissionDenied => "not_permitted",
        _ => "other",
    }
}
