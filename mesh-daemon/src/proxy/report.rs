//! The one place where an outcome becomes metrics. What is begun here is reported exactly once, whatever way it ends.

use std::{net::SocketAddr, sync::Arc, time::Instant};

use super::{
    Shared, copy,
    outcome::{Failure, Outcome, Parties},
};
use crate::model::Workload;

/// An opaque connection from its dial to its end.
pub(super) struct OpenConnection {
    shared: Arc<Shared>,
    parties: Parties,
    outcome: Option<Outcome>,
}

/// An HTTP request from its head to its answer's last byte.
pub(super) struct Exchange {
    shared: Arc<Shared>,
    /// Who takes part.
    pub parties: Parties,
    protocol: &'static str,
    started: Instant,
    status: Option<u16>,
    outcome: Option<Outcome>,
}

impl OpenConnection {
    /// Begins.
    pub(super) fn new(shared: &Arc<Shared>, parties: Parties) -> Self {
        shared.metrics.connections_open.inc();
        Self {
            shared: Arc::clone(shared),
            parties,
            outcome: None,
        }
    }

    /// An endpoint accepted; hands out the counters of its bytes.
    pub(super) fn connected(&mut self, destination: Option<Arc<Workload>>) -> copy::Bytes {
        self.parties.destination = destination;
        let metrics = &self.shared.metrics;
        metrics.opened(&self.parties);
        metrics.bytes(&self.parties)
    }

    /// Nobody accepted.
    pub(super) fn refuse(mut self, failure: &Failure, destination: SocketAddr) {
        tracing::debug!(%destination, reason = %failure, "a connection was reset");
        self.outcome = Some(failure.outcome());
    }

    /// It ended.
    pub(super) fn close(mut self, outcome: Outcome) {
        self.outcome = Some(outcome);
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        let metrics = &self.shared.metrics;
        metrics.connections_open.dec();
        // dropped unreported only when the worker itself ends: the client's connection is cut by that
        metrics.closed(&self.parties, self.outcome.unwrap_or(Outcome::ClientReset));
    }
}

impl Exchange {
    /// Begins.
    pub(super) fn new(shared: &Arc<Shared>, parties: Parties, protocol: &'static str) -> Self {
        shared.metrics.requests_open.inc();
        Self {
            shared: Arc::clone(shared),
            parties,
            protocol,
            started: Instant::now(),
            status: None,
            outcome: None,
        }
    }

    /// The answer's head is known.
    pub(super) fn answered(&mut self, status: hyper::StatusCode) {
        self.status = Some(status.as_u16());
    }

    /// The mesh answers itself.
    pub(super) fn failed(&mut self, failure: &Failure, destination: SocketAddr) {
        tracing::debug!(%destination, reason = %failure, "a request was answered by the mesh itself");
        self.outcome = Some(failure.outcome());
    }

    /// It ended; the first word counts.
    pub(super) fn end(&mut self, outcome: Outcome) {
        self.outcome.get_or_insert(outcome);
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        let metrics = &self.shared.metrics;
        metrics.requests_open.dec();
        // hyper drops what belongs to a client that left
        let outcome = self.outcome.unwrap_or(Outcome::ClientReset);
        metrics.request(
            &self.parties,
            self.protocol,
            self.status,
            outcome,
            self.started.elapsed(),
        );
    }
}
