//! Live state as metrics, read when it is scraped: what is gone has no series, and nothing is kept up to date meanwhile.

use std::sync::Weak;

use prometheus::{
    IntGaugeVec, Opts,
    core::{Collector, Desc},
    proto::MetricFamily,
};

use super::{Shared, view};

const LABELS: [&str; 3] = ["upstream_service", "upstream_namespace", "endpoint"];

/// Circuit breakers and load of endpoints, of the Services whose policy has a `circuitBreaker`.
#[derive(Clone)]
pub(super) struct LiveGauges {
    shared: Weak<Shared>,
    state: IntGaugeVec,
    in_flight: IntGaugeVec,
}

impl LiveGauges {
    /// Of what stands behind `shared`, as long as it does.
    pub(super) fn new(shared: Weak<Shared>) -> prometheus::Result<Self> {
        let gauge = |name: &str, help: &str| IntGaugeVec::new(Opts::new(name, help), &LABELS);
        Ok(Self {
            shared,
            state: gauge(
                "weft_circuit_breaker_state",
                "Circuit breaker of an endpoint on this node: 0 closed, 1 half open, 2 open.",
            )?,
            in_flight: gauge(
                "weft_endpoint_requests_in_flight",
                "HTTP requests in flight from this node to an endpoint of a Service with a circuit breaker.",
            )?,
        })
    }

    fn read(&self) {
        let Self {
            shared,
            state,
            in_flight,
        } = self;
        state.reset();
        in_flight.reset();
        let Some(shared) = shared.upgrade() else { return };
        let tables = shared.tables.load_full();
        for ((service, address), endpoint) in view::with_breakers(&tables) {
            let address = address.to_string();
            let labels = [service.name.as_str(), service.namespace.as_str(), &address];
            state.with_label_values(&labels).set(endpoint.breaker.state().metric());
            in_flight
                .with_label_values(&labels)
                .set(i64::from(endpoint.requests.current()));
        }
    }
}

impl Collector for LiveGauges {
    fn desc(&self) -> Vec<&Desc> {
        self.state.desc().into_iter().chain(self.in_flight.desc()).collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        self.read();
        self.state
            .collect()
            .into_iter()
            .chain(self.in_flight.collect())
            .collect()
    }
}
