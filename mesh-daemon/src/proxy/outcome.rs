//! How a connection or a request ends, and whose doing it was: [`Outcome`] is what everything else becomes; its words are the metric labels.

use std::{io, net::SocketAddr, sync::Arc};

use hyper::StatusCode;
use thiserror::Error;

use crate::model::{AttemptEnd, RuleFailure, Upstream, Workload};

/// The end of one connection or request: exactly one each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Both sides got what was sent.
    Completed,
    /// Mesh: a route's rule answered with a redirect.
    Redirected,
    /// Downstream: the client reset the connection or left before the end.
    ClientReset,
    /// Upstream: the endpoint reset the connection or broke off.
    UpstreamReset,
    /// Upstream: it took longer than the timeout that its route or policy gives it. Or downstream: the client itself took most of that time.
    Timeout,
    /// Upstream: no endpoint accepted a connection.
    ConnectFailed,
    /// Mesh: the Service has no ready endpoint.
    NoEndpoint,
    /// Mesh: the Service is routed, and no rule matches.
    NoRoute,
    /// Mesh: the rule that matches cannot be applied, or sends to nobody.
    RouteFailed(RuleFailure),
    /// Downstream: what a route's rewrite or redirect makes of the request cannot be sent.
    Unfit,
    /// Mesh: the backend that was chosen by weight does not exist.
    BackendUnresolved,
    /// Mesh: the breakers of all endpoints are open.
    CircuitOpen,
    /// Mesh: a limit of the Service's policy is reached.
    Overflow(Limit),
    /// Mesh: its own task ended before the connection or request did, by a panic or because the worker was cut off.
    Aborted,
}

/// A limit of a TrafficPolicy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Limit {
    /// `maxConnections`.
    Connections,
    /// `maxRequests`.
    Requests,
    /// `maxConnectionsPerEndpoint`, at every endpoint that could have been chosen.
    ConnectionsPerEndpoint,
    /// `maxRequestsPerEndpoint`, at every endpoint that could have been chosen.
    RequestsPerEndpoint,
}

impl Limit {
    /// The metric label, in snake case.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Connections => "max_connections",
            Self::Requests => "max_requests",
            Self::ConnectionsPerEndpoint => "max_connections_per_endpoint",
            Self::RequestsPerEndpoint => "max_requests_per_endpoint",
        }
    }

    /// The field of the policy, for sentences.
    fn field(self) -> &'static str {
        match self {
            Self::Connections => "limits.maxConnections",
            Self::Requests => "limits.maxRequests",
            Self::ConnectionsPerEndpoint => "limits.maxConnectionsPerEndpoint",
            Self::RequestsPerEndpoint => "limits.maxRequestsPerEndpoint",
        }
    }
}

impl Outcome {
    /// The metric label, in snake case.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Completed => "completed",
            Self::Redirected => "redirected",
            Self::ClientReset => "client_reset",
            Self::UpstreamReset => "upstream_reset",
            Self::Timeout => "timeout",
            Self::ConnectFailed => "connect_failed",
            Self::NoEndpoint => "no_endpoint",
            Self::NoRoute => "no_route",
            Self::RouteFailed(RuleFailure::Unsupported) => "route_unsupported",
            Self::RouteFailed(RuleFailure::NoBackend) => "route_no_backend",
            Self::RouteFailed(RuleFailure::NoWeight) => "route_no_weight",
            Self::Unfit => "route_unfit",
            Self::BackendUnresolved => "backend_unresolved",
            Self::CircuitOpen => "circuit_open",
            Self::Overflow(limit) => limit.name(),
            Self::Aborted => "mesh_aborted",
        }
    }
}

/// Why the mesh has no answer from upstream; for HTTP its sentence is the body of the mesh's own answer.
#[derive(Debug, Error)]
pub(super) enum Failure {
    /// Nobody to ask.
    #[error("weft: the service has no ready endpoint")]
    NoEndpoint,
    /// All were asked; this one last.
    #[error("weft: no endpoint accepted a connection, last {0}: {1}")]
    Connect(SocketAddr, #[source] io::Error),
    /// The request was sent, at least in part, and must not be sent twice.
    #[error("weft: the endpoint {0} broke off before it answered: {1}")]
    Unanswered(SocketAddr, #[source] hyper::Error),
    /// The request's body broke off on the client's side; the endpoint has seen a part of it.
    #[error("weft: the request's body ended early: {0}")]
    Unfinished(#[source] hyper::Error),
    /// The request's body did not come in time.
    #[error("weft: the request's body took most of the time that {0} gives")]
    Stalled(TimeoutField),
    /// It took too long; the endpoint that was asked last.
    #[error("weft: no answer within the time that {0} gives, last asked {1}")]
    Timeout(TimeoutField, SocketAddr),
    /// GEP-1294: a Service with routes serves nothing else.
    #[error("weft: no rule of the service's routes matches the request")]
    NoRoute,
    /// The rule, as in `shop/web rule 0`.
    #[error("weft: {1}: {sentence}", sentence = rule_sentence(*.0))]
    RouteFailed(RuleFailure, String),
    /// What a route makes of this request cannot be sent: the part of it.
    #[error("weft: the {0} that the route makes of this request is none")]
    Unfit(&'static str),
    /// The backend's name.
    #[error("weft: the route's backend {0} does not exist")]
    BackendUnresolved(String),
    /// `whenAllOpen: FailFast`.
    #[error("weft: circuit_open: every endpoint has failed too often, and is left alone for a while")]
    CircuitOpen,
    /// Answered at once, without a queue.
    #[error("weft: {}: the limit {} is reached", .0.name(), .0.field())]
    Overflow(Limit),
}

/// Which timeout has passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub(super) enum TimeoutField {
    /// Of all attempts.
    #[error("`request`, of the route's `timeouts` or else of the policy's `timeout`,")]
    Request,
    /// Of one attempt.
    #[error("`backendRequest`, of the route's `timeouts` or else of the policy's `timeout`,")]
    Attempt,
}

fn rule_sentence(failure: RuleFailure) -> &'static str {
    match failure {
        RuleFailure::Unsupported => "the rule asks for something that is not supported; its status says what",
        RuleFailure::NoBackend => "the rule has no backend",
        RuleFailure::NoWeight => "all backends of the rule have the weight 0",
    }
}

impl Failure {
    /// How the request or connection ended.
    pub(super) fn outcome(&self) -> Outcome {
        match self {
            Self::NoEndpoint => Outcome::NoEndpoint,
            Self::Connect(..) => Outcome::ConnectFailed,
            Self::Unanswered(..) => Outcome::UpstreamReset,
            Self::Unfinished(..) => Outcome::ClientReset,
            Self::Stalled(_) | Self::Timeout(..) => Outcome::Timeout,
            Self::NoRoute => Outcome::NoRoute,
            Self::RouteFailed(failure, _) => Outcome::RouteFailed(*failure),
            Self::Unfit(_) => Outcome::Unfit,
            Self::BackendUnresolved(_) => Outcome::BackendUnresolved,
            Self::CircuitOpen => Outcome::CircuitOpen,
            Self::Overflow(limit) => Outcome::Overflow(*limit),
        }
    }

    /// What it says about the endpoint; none if it was not the endpoint's doing.
    pub(super) fn attempt_end(&self) -> Option<AttemptEnd> {
        match self {
            Self::Connect(..) => Some(AttemptEnd::ConnectFailure),
            Self::Unanswered(..) => Some(AttemptEnd::Reset),
            Self::Timeout(..) => Some(AttemptEnd::Timeout),
            _ => None,
        }
    }

    /// The endpoint whose doing it was.
    pub(super) fn endpoint(&self) -> Option<SocketAddr> {
        match self {
            Self::Connect(endpoint, _) | Self::Unanswered(endpoint, _) | Self::Timeout(_, endpoint) => Some(*endpoint),
            _ => None,
        }
    }

    /// The status of the mesh's own answer (RFC 9110, 15.5 and 15.6; GEP-1294 for what concerns routes).
    pub(super) fn status(&self) -> StatusCode {
        match self {
            Self::NoEndpoint | Self::Connect(..) | Self::CircuitOpen | Self::Overflow(_) => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            Self::Unanswered(..) => StatusCode::BAD_GATEWAY,
            // RFC 9112, 8
            Self::Unfinished(..) | Self::Unfit(_) => StatusCode::BAD_REQUEST,
            Self::Stalled(_) | Self::Timeout(..) => StatusCode::GATEWAY_TIMEOUT,
            Self::NoRoute => StatusCode::NOT_FOUND,
            Self::RouteFailed(..) | Self::BackendUnresolved(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

/// Who takes part: what metrics are labelled with.
#[derive(Clone, Debug)]
pub(super) struct Parties {
    /// The client's pod.
    pub source: Option<Arc<Workload>>,
    /// The endpoint's pod, once one is connected.
    pub destination: Option<Arc<Workload>>,
    /// The Service.
    pub service: Option<Arc<Upstream>>,
}
