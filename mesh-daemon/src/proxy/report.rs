//! The one place where an outcome becomes metrics. What is begun here is reported exactly once, whatever way it ends.

use std::{net::SocketAddr, sync::Arc, time::Instant};

use super::{
    Shared, copy,
    outcome::{Failure, Outcome, Parties},
};
use crate::model::{Rule, Workload};

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
    /// The endpoint that answered, or was asked last.
    pub endpoint: Option<SocketAddr>,
    /// Endpoints that were asked, the same one counted each time.
    pub attempts: u32,
    /// Whether it is a call of gRPC.
    pub is_grpc: bool,
    /// The call's grpc-status.
    pub grpc: Option<u8>,
    rule: Option<Arc<Rule>>,
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
        // dropped unreported only with its task: by a panic, or by the end of the worker
        metrics.closed(&self.parties, self.outcome.unwrap_or(Outcome::Aborted));
    }
}

impl Exchange {
    /// Begins.
    pub(super) fn new(shared: &Arc<Shared>, parties: Parties, protocol: &'static str, is_grpc: bool) -> Self {
        shared.metrics.requests_open.inc();
        Self {
            shared: Arc::clone(shared),
            parties,
            endpoint: None,
            attempts: 0,
            is_grpc,
            grpc: None,
            rule: None,
            protocol,
            started: Instant::now(),
            status: None,
            outcome: None,
        }
    }

    /// A rule decided about it.
    pub(super) fn by(&mut self, rule: &Arc<Rule>) {
        self.rule = Some(Arc::clone(rule));
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
        let outcome = self.outcome.unwrap_or(if std::thread::panicking() {
            Outcome::Aborted
        } else {
            // hyper drops what belongs to a client that left
            Outcome::ClientReset
        });
        metrics.request(
            &self.parties,
            self.protocol,
            self.status,
            outcome,
            self.started.elapsed(),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxy::Options;

    #[test]
    fn a_panic_is_not_blamed_on_the_client() {
        let registry = prometheus::Registry::new();
        let options = Options {
            marks: mesh_common::settings::Settings::DEFAULT_MARKS,
            transparent: false,
        };
        let shared = Shared::new(&registry, options);
        let parties = || Parties {
            source: None,
            destination: None,
            service: None,
        };
        let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let _open = OpenConnection::new(&shared, parties());
            let _exchange = Exchange::new(&shared, parties(), "http/1.1", false);
            panic!("on purpose");
        }));
        assert!(panicked.is_err());
        drop(Exchange::new(&shared, parties(), "http/1.1", false));
        let words: Vec<_> = registry
            .gather()
            .iter()
            .filter(|family| {
                ["weft_request_outcomes_total", "weft_tcp_connections_closed_total"].contains(&family.name())
            })
            .flat_map(|family| family.get_metric().to_vec())
            .flat_map(|metric| metric.get_label().to_vec())
            .filter(|label| label.name() == "outcome")
            .map(|label| label.value().to_owned())
            .collect();
        assert_eq!(words, ["client_reset", "mesh_aborted", "mesh_aborted"]);
    }
}
