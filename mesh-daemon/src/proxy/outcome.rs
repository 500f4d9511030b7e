//! How a connection or request ended, and whose doing it was. The only place that translates errors; its words are the metric labels.

use std::{io, net::SocketAddr, sync::Arc};

use thiserror::Error;

use crate::model::{Upstream, Workload};

/// The end of one connection or request: exactly one each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Both sides got what was sent.
    Completed,
    /// Downstream: the client reset the connection or left before the end.
    ClientReset,
    /// Upstream: the endpoint reset the connection or broke off.
    UpstreamReset,
    /// Upstream: no endpoint accepted a connection.
    ConnectFailed,
    /// Mesh: the Service has no ready endpoint.
    NoEndpoint,
    /// Mesh: its own task ended before the connection or request did, by a panic or because the worker was cut off.
    Aborted,
}

impl Outcome {
    /// The metric label, in snake case.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Completed => "completed",
            Self::ClientReset => "client_reset",
            Self::UpstreamReset => "upstream_reset",
            Self::ConnectFailed => "connect_failed",
            Self::NoEndpoint => "no_endpoint",
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
}

impl Failure {
    /// How the request or connection ended.
    pub(super) fn outcome(&self) -> Outcome {
        match self {
            Self::NoEndpoint => Outcome::NoEndpoint,
            Self::Connect(..) => Outcome::ConnectFailed,
            Self::Unanswered(..) => Outcome::UpstreamReset,
            Self::Unfinished(..) => Outcome::ClientReset,
        }
    }

    /// The endpoint whose doing it was.
    pub(super) fn endpoint(&self) -> Option<SocketAddr> {
        match self {
            Self::Connect(endpoint, _) | Self::Unanswered(endpoint, _) => Some(*endpoint),
            Self::NoEndpoint | Self::Unfinished(_) => None,
        }
    }

    /// The status of the mesh's own answer (RFC 9110, 15.6).
    pub(super) fn status(&self) -> hyper::StatusCode {
        match self {
            Self::NoEndpoint | Self::Connect(..) => hyper::StatusCode::SERVICE_UNAVAILABLE,
            Self::Unanswered(..) => hyper::StatusCode::BAD_GATEWAY,
            // RFC 9112, 8
            Self::Unfinished(..) => hyper::StatusCode::BAD_REQUEST,
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
