//! A TrafficPolicy (weft.mesh/v1alpha1), trimmed and checked: how connections and requests to a Service are balanced, broken, limited, retried and timed.

use std::collections::BTreeSet;

use core::time::Duration;

use serde::{Deserialize, Serialize};

/// A TrafficPolicy as this node saw it. A spec that does not hold never replaces the last one that did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrafficPolicy {
    /// `metadata.generation` of what was seen last; 0 if the manifest has none.
    pub generation: i64,
    /// `metadata.creationTimestamp` in seconds since the epoch; absent counts as youngest.
    pub created: Option<i64>,
    /// `spec.targetRefs`: names of Services of its own namespace, 1 to 16. Of the last spec, valid or not, as far as they can be read.
    pub targets: Vec<String>,
    /// What is wrong with the last spec, if anything is: one sentence that names the field.
    pub invalid: Option<String>,
    /// The last valid spec that this node saw, with its generation; none if it saw none.
    pub valid: Option<ValidPolicy>,
}

/// A spec that holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ValidPolicy {
    /// Its `metadata.generation`.
    pub generation: i64,
    /// Names of Services of its own namespace.
    pub targets: Vec<String>,
    /// The settings.
    pub spec: PolicySpec,
}

/// `spec`, without the targets.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct PolicySpec {
    /// `loadBalancer`.
    pub load_balancer: Option<LoadBalancer>,
    /// `circuitBreaker`.
    pub circuit_breaker: Option<CircuitBreaker>,
    /// `limits`.
    pub limits: Option<Limits>,
    /// `retry`.
    pub retry: Option<RetryPolicy>,
    /// `timeout`.
    pub timeout: Option<TimeoutPolicy>,
}

/// `loadBalancer.type`, with what it needs.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum LoadBalancer {
    /// `RoundRobin`, also where there is no policy.
    #[default]
    RoundRobin,
    /// `WeightedRoundRobin`, by the pod annotation `weft.mesh/weight`.
    WeightedRoundRobin,
    /// `LeastRequest`: the fewest requests in flight of all endpoints.
    LeastRequest,
    /// `Random`.
    Random,
    /// `PowerOfTwoChoices`: of two random endpoints the one with fewer requests in flight.
    PowerOfTwoChoices,
    /// `PeakEwma`: of two random endpoints the one with the lower product of latency and requests in flight.
    PeakEwma,
    /// `RingHash`.
    RingHash(HashKey),
    /// `Maglev`.
    Maglev(HashKey),
}

/// `loadBalancer.hashKey`: what of a request decides its endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum HashKey {
    /// `type: Header`; the name in lower case.
    Header(String),
    /// `type: Cookie`: read, never set.
    Cookie(String),
    /// `type: SourceAddress`: the client's address, without its port.
    SourceAddress,
}

/// `circuitBreaker`: of each endpoint, with state of this node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CircuitBreaker {
    /// `failureThreshold`: failures in a row that open it, 1 and up; default 5.
    pub failure_threshold: u32,
    /// `successThreshold`: successful trials in a row that close it, 1 and up; default 3.
    pub success_threshold: u32,
    /// `timeout`: how long it stays open before trials are let through; default 30 s.
    pub timeout: Duration,
    /// `halfOpenRequests`: trials at the same time, 1 and up; default 1.
    pub half_open_requests: u32,
    /// `failureOn`: what counts as a failure.
    pub failure_on: BTreeSet<FailureClass>,
    /// `maxEjectionPercent`: of the Service's endpoints, 0 to 100, default 100; one may always be ejected.
    pub max_ejection_percent: u8,
    /// `whenAllOpen`.
    pub when_all_open: WhenAllOpen,
}

/// `circuitBreaker.whenAllOpen`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum WhenAllOpen {
    /// `FailFast`: 503 with the reason `circuit_open`.
    #[default]
    FailFast,
    /// `Panic`: as if all were closed.
    Panic,
}

/// What may go wrong with one attempt: the words of `circuitBreaker.failureOn` and `retry.retryOn`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum FailureClass {
    /// `connect-failure`: the endpoint did not accept.
    ConnectFailure,
    /// `reset`: the connection or stream broke off before the answer was complete.
    Reset,
    /// `timeout`: the attempt took longer than `timeout.backendRequest`, or the request longer than `timeout.request`.
    Timeout,
    /// `5xx`: the answer's status is 500 to 599.
    Http5xx,
    /// `gateway-error`: the answer's status is 502, 503 or 504.
    GatewayError,
    /// `cancelled`, `deadline-exceeded`, `internal`, `resource-exhausted`, `unavailable` …: the call's grpc-status, 1 to 16.
    Grpc(u8),
}

/// How one attempt ended, as far as breakers and retries care.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttemptEnd {
    /// The endpoint answered.
    Answered {
        /// The HTTP status.
        status: u16,
        /// The grpc-status of a gRPC call, once it is known.
        grpc: Option<u8>,
    },
    /// See [`FailureClass::ConnectFailure`].
    ConnectFailure,
    /// See [`FailureClass::Reset`].
    Reset,
    /// See [`FailureClass::Timeout`].
    Timeout,
}

impl AttemptEnd {
    /// Whether one of the classes covers it.
    pub fn is_in(self, classes: &BTreeSet<FailureClass>) -> bool {
        classes.iter().any(|class| self.is_of(*class))
    }

    fn is_of(self, class: FailureClass) -> bool {
        match (class, self) {
            (FailureClass::ConnectFailure, Self::ConnectFailure)
            | (FailureClass::Reset, Self::Reset)
            | (FailureClass::Timeout, Self::Timeout) => true,
            (FailureClass::Http5xx, Self::Answered { status, .. }) => (500..600).contains(&status),
            (FailureClass::GatewayError, Self::Answered { status, .. }) => (502..=504).contains(&status),
            (FailureClass::Grpc(code), Self::Answered { grpc, .. }) => grpc == Some(code),
            _ => false,
        }
    }
}

/// `limits`, of this node; none means no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Limits {
    /// `maxConnections` to the whole Service.
    pub max_connections: Option<u32>,
    /// `maxRequests` in flight to the whole Service.
    pub max_requests: Option<u32>,
    /// `maxConnectionsPerEndpoint`.
    pub max_connections_per_endpoint: Option<u32>,
    /// `maxRequestsPerEndpoint`, in flight.
    pub max_requests_per_endpoint: Option<u32>,
}

/// `retry`; what is absent is left to the route, then to the default.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct RetryPolicy {
    /// `attempts`: retries, the first try not counted.
    pub attempts: Option<u32>,
    /// `codes`: HTTP statuses beside `retryOn`, 400 to 599.
    pub codes: Option<Vec<u16>>,
    /// `retryOn`.
    pub retry_on: Option<BTreeSet<FailureClass>>,
    /// `backoff`: before the first retry; it doubles with each, and is jittered.
    pub backoff: Option<Duration>,
    /// `budget`.
    pub budget: Option<RetryBudget>,
}

/// `retry.budget` (GEP-3388, as XBackendTrafficPolicy spells it): retries ≤ max(percent of requests, floor) in every window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RetryBudget {
    /// `percent`, 0 to 100; default 20.
    pub percent: u8,
    /// `interval`: the window; default 10 s.
    pub interval: Duration,
    /// `minRetryRate.count`; default 10.
    pub min_retry_count: u32,
    /// `minRetryRate.interval`; default 1 s.
    pub min_retry_interval: Duration,
}

/// `timeout`; zero means none, and that is not the same as absent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct TimeoutPolicy {
    /// `request`: for all attempts together.
    pub request: Option<Duration>,
    /// `backendRequest`: for each attempt.
    pub backend_request: Option<Duration>,
}
