//! The one place where an outcome becomes metrics and a line of the access log. What is begun here is reported exactly once, whatever way it ends.

use std::{
    net::SocketAddr,
    rc::Rc,
    sync::Arc,
    time::{Instant, SystemTime},
};

use http::request::Parts;

use super::{
    Shared,
    access_log::{ConnectionEnd, Heard, Line, RequestEnd},
    copy,
    identify::Connection,
    outcome::{Failure, Outcome, Parties},
};
use crate::model::{Rule, Upstream, Workload};

/// An opaque connection from its dial to its end.
pub(super) struct OpenConnection {
    shared: Arc<Shared>,
    parties: Parties,
    client: SocketAddr,
    destination: SocketAddr,
    endpoint: Option<SocketAddr>,
    bytes: Option<Rc<copy::Bytes>>,
    started: Instant,
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
    /// Bytes of the answer's body that went to the client.
    pub response_bytes: u64,
    /// What the access log wants to know of the head; none while it is off.
    heard: Option<Box<Heard>>,
    rule: Option<Arc<Rule>>,
    protocol: &'static str,
    started: Instant,
    status: Option<u16>,
    outcome: Option<Outcome>,
}

impl OpenConnection {
    /// Begins.
    pub(super) fn new(shared: &Arc<Shared>, connection: &Connection, parties: Parties) -> Self {
        shared.metrics.connections_open.inc();
        Self {
            shared: Arc::clone(shared),
            parties,
            client: connection.client,
            destination: connection.destination,
            endpoint: None,
            bytes: None,
            started: Instant::now(),
            outcome: None,
        }
    }

    /// An endpoint accepted; hands out the counters of its bytes.
    pub(super) fn connected(
        &mut self,
        destination: Option<Arc<Workload>>,
        endpoint: Option<SocketAddr>,
    ) -> Rc<copy::Bytes> {
        self.parties.destination = destination;
        self.endpoint = endpoint;
        let metrics = &self.shared.metrics;
        metrics.opened(&self.parties);
        let bytes = Rc::new(metrics.bytes(&self.parties));
        self.bytes = Some(Rc::clone(&bytes));
        bytes
    }

    /// Nobody accepted.
    pub(super) fn refuse(mut self, failure: &Failure, destination: SocketAddr) {
        tracing::debug!(%destination, reason = %failure, "a connection was reset");
        self.outcome = Some(failure.outcome());
        self.endpoint = failure.endpoint();
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
        let outcome = self.outcome.unwrap_or(Outcome::Aborted);
        metrics.closed(&self.parties, outcome);
        self.log(outcome);
    }
}

impl OpenConnection {
    fn log(&self, outcome: Outcome) {
        let Some(log) = &self.shared.borders.access_log else {
            return;
        };
        let bytes = self.bytes.as_ref();
        let end = ConnectionEnd {
            client: self.client,
            destination: self.destination,
            parties: &self.parties,
            outcome,
            endpoint: self.endpoint,
            took: self.started.elapsed(),
            bytes: bytes.map_or((0, 0), |bytes| (bytes.sent.get(), bytes.received.get())),
        };
        log.leave(Line::connection(&end, SystemTime::now()).to_json());
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
            response_bytes: 0,
            heard: None,
            rule: None,
            protocol,
            started: Instant::now(),
            status: None,
            outcome: None,
        }
    }

    /// Keeps what the access log wants to know of the head, if it is on.
    pub(super) fn hear(&mut self, head: &Parts, connection: &Connection) {
        if self.shared.borders.access_log.is_some() {
            self.heard = Some(Box::new(Heard::new(head, connection)));
        }
    }

    /// Endpoints of this Service are tried.
    pub(super) fn sent_to(&mut self, upstream: Option<&Arc<Upstream>>) {
        if let Some(heard) = &mut self.heard {
            heard.backend = upstream.cloned();
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
        let took = self.started.elapsed();
        metrics.request(&self.parties, self.protocol, self.status, outcome, took);
        if let (Some(log), Some(heard)) = (&self.shared.borders.access_log, &self.heard) {
            let end = RequestEnd {
                heard,
                parties: &self.parties,
                protocol: self.protocol,
                status: self.status,
                grpc: self.grpc,
                outcome,
                rule: self.rule.as_deref(),
                endpoint: self.endpoint,
                attempts: self.attempts,
                took,
                response_bytes: self.response_bytes,
            };
            log.leave(Line::request(&end, SystemTime::now()).to_json());
        }
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
        let connection = Connection {
            client: SocketAddr::from(([10, 0, 0, 1], 1)),
            source: None,
            destination: SocketAddr::from(([10, 0, 0, 2], 2)),
        };
        let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let _open = OpenConnection::new(&shared, &connection, parties());
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
