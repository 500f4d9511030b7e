//! The data path's metrics.

mod attempts;

use std::{io::ErrorKind, time::Duration};

use prometheus::{HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, Opts, Registry};

pub(super) use attempts::{Attempts, Retried, Tried};

use super::{
    bounds::DURATION_BUCKETS,
    copy,
    dial::OwnReason,
    outcome::{Outcome, Parties},
};
use crate::{model::Workload, telemetry::register};

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
    /// Of attempts at endpoints.
    pub upstream: Attempts,
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
            upstream: Attempts::new(registry),
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
