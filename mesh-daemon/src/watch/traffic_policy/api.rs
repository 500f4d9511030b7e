//! The TrafficPolicy as people write it: the types that the CustomResourceDefinition is made from, and that specs are read into.
//!
//! Numbers and words are plain here, whatever the schema says of them: a spec that slipped past the schema still decodes, and
//! `check` names the field that is wrong. The text above each field is what `kubectl explain trafficpolicy` prints.

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{
    bounds::{
        ALL_OPEN, BALANCERS, CODE_MAX, CODE_MIN, CODES_MAX, COUNT_MAX, DURATION, DURATION_CHARS_MAX, FAILURES,
        HASH_KEYS, NAME_CHARS_MAX, RETRIES_MAX, TARGETS_MAX, THRESHOLD_MAX, TOKEN, TOKEN_CHARS_MAX,
    },
    rules::{self, validations},
};

/// How connections and requests to Services are balanced, broken off, limited, retried and timed, in every node whose pods call them.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[kube(
    group = "weft.mesh",
    version = "v1alpha1",
    kind = "TrafficPolicy",
    root = "TrafficPolicyObject",
    namespaced,
    status = "TrafficPolicyStatus",
    shortname = "tp",
    category = "weft",
    category = "gateway-api",
    doc = "How connections and requests to Services are balanced, broken off, limited, retried and timed, in every node whose pods call them.",
    label("gateway.networking.k8s.io/policy", "Direct"),
    label("app.kubernetes.io/part-of", "weft"),
    printcolumn = r#"{"name": "Target", "type": "string", "jsonPath": ".spec.targetRefs[0].name", "description": "The first of the Services that it is for."}"#,
    printcolumn = r#"{"name": "Load balancer", "type": "string", "jsonPath": ".spec.loadBalancer.type", "description": "How endpoints are picked."}"#,
    printcolumn = r#"{"name": "Accepted", "type": "string", "jsonPath": ".status.ancestors[0].conditions[?(@.type==\"Accepted\")].status", "description": "Whether the mesh takes it for the first of its targets."}"#,
    printcolumn = r#"{"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp", "description": "Of two policies for one Service the older one holds."}"#
)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = validations(&[rules::SOMETHING])))]
pub struct TrafficPolicySpec {
    /// The Services that it is for, in its own namespace. Of several policies for one Service the oldest holds whole.
    #[schemars(extend(
        "minItems" = 1, "maxItems" = TARGETS_MAX, "x-kubernetes-list-type" = "atomic",
        "x-kubernetes-validations" = validations(&[rules::TARGETS_ONCE])
    ))]
    pub target_refs: Vec<TargetRef>,
    /// How the endpoint of a connection or request is picked; RoundRobin if absent.
    pub load_balancer: Option<LoadBalancerSpec>,
    /// Leaves out endpoints that fail, until they do well again; none if absent.
    pub circuit_breaker: Option<CircuitBreakerSpec>,
    /// How much is under way at the same time, for each node; no limit if absent.
    pub limits: Option<LimitsSpec>,
    /// What is tried again, for requests to these Services; nothing if absent. A field that the HTTPRoute's rule sets wins.
    pub retry: Option<RetrySpec>,
    /// How long requests to these Services may take; no limit if absent. A field that the HTTPRoute's rule sets wins.
    pub timeout: Option<TimeoutSpec>,
}

/// A Service of the policy's own namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub struct TargetRef {
    /// The API group of the target: empty, since Services are of the core group.
    #[serde(default)]
    #[schemars(extend("enum" = [""], "default" = ""))]
    pub group: String,
    /// The kind of the target: Service.
    #[serde(default = "service")]
    #[schemars(extend("enum" = ["Service"]))]
    pub kind: String,
    /// The Service's name.
    #[schemars(extend("minLength" = 1, "maxLength" = NAME_CHARS_MAX))]
    pub name: String,
}

/// How endpoints are picked.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = validations(&[rules::KEY_NEEDED, rules::KEY_FORBIDDEN])))]
pub struct LoadBalancerSpec {
    /// RoundRobin: one after the other (elsewhere round_robin). WeightedRoundRobin: by the pod annotation weft.mesh/weight, 1 to 1000 (elsewhere
    /// weighted). LeastRequest: the fewest requests in flight (elsewhere least_conn). Random. PowerOfTwoChoices: the less busy of two random
    /// ones. PeakEwma: of two random ones the one with the lower product of latency and requests in flight. RingHash and Maglev: by hashKey.
    #[serde(rename = "type")]
    #[schemars(extend("enum" = BALANCERS))]
    pub kind: String,
    /// What of a request decides its endpoint, with RingHash and Maglev.
    pub hash_key: Option<HashKeySpec>,
}

/// What of a request decides its endpoint.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[schemars(extend("x-kubernetes-validations" = validations(&[rules::NAME_NEEDED, rules::NAME_FORBIDDEN])))]
pub struct HashKeySpec {
    /// Header and Cookie: the value of the one named. SourceAddress: the client's address. Requests without it go to a random endpoint.
    #[serde(rename = "type")]
    #[schemars(extend("enum" = HASH_KEYS))]
    pub kind: String,
    /// The name of the header or cookie. Cookies are read and never set.
    #[schemars(extend("minLength" = 1, "maxLength" = TOKEN_CHARS_MAX, "pattern" = TOKEN))]
    pub name: Option<String>,
}

/// When an endpoint is left out, with counts of each node.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct CircuitBreakerSpec {
    /// Failures in a row that open the breaker of an endpoint.
    #[schemars(extend("minimum" = 1, "maximum" = THRESHOLD_MAX))]
    pub failure_threshold: i64,
    /// Trials in a row that must succeed before it closes.
    #[schemars(extend("minimum" = 1, "maximum" = THRESHOLD_MAX))]
    pub success_threshold: i64,
    /// How long an endpoint is left out before trials are let through, as in 30s; above 0s, 1h at most.
    #[schemars(extend(
        "pattern" = DURATION, "maxLength" = DURATION_CHARS_MAX, "x-kubernetes-validations" = validations(&[rules::BREAKER_TIME])
    ))]
    pub timeout: String,
    /// Trials at the same time.
    #[schemars(extend("minimum" = 1, "maximum" = THRESHOLD_MAX))]
    pub half_open_requests: i64,
    /// What counts as a failure: connect-failure, reset (the connection or stream broke off), timeout (as the policy's or the route's timeouts
    /// say), 5xx, gateway-error (502, 503, 504), and the grpc-status words cancelled, deadline-exceeded, internal, resource-exhausted, unavailable.
    #[schemars(extend("minItems" = 1, "maxItems" = FAILURES.len(), "x-kubernetes-list-type" = "set", "items" = failure()))]
    pub failure_on: Vec<String>,
    /// Most endpoints of a Service that are left out at the same time, in percent; one always may be.
    #[schemars(extend("minimum" = 0, "maximum" = 100))]
    pub max_ejection_percent: i64,
    /// What happens while every endpoint is left out. FailFast: requests are answered with 503. Panic: as if none were.
    #[schemars(extend("enum" = ALL_OPEN))]
    pub when_all_open: String,
}

/// Limits, for each node. What is beyond them is answered at once, with 503.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = validations(&[rules::SOME_LIMIT])))]
pub struct LimitsSpec {
    /// Connections in use to the whole Service; those that idle for the next request do not count.
    #[schemars(extend("minimum" = 1, "maximum" = COUNT_MAX))]
    pub max_connections: Option<i64>,
    /// Requests in flight to the whole Service.
    #[schemars(extend("minimum" = 1, "maximum" = COUNT_MAX))]
    pub max_requests: Option<i64>,
    /// Connections in use to each of its endpoints.
    #[schemars(extend("minimum" = 1, "maximum" = COUNT_MAX))]
    pub max_connections_per_endpoint: Option<i64>,
    /// Requests in flight to each of its endpoints.
    #[schemars(extend("minimum" = 1, "maximum" = COUNT_MAX))]
    pub max_requests_per_endpoint: Option<i64>,
}

/// What is tried again: only requests that are safe to send twice, at another endpoint if there is one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RetrySpec {
    /// Retries at most, the first try not counted; 0 for none. 1 if absent.
    #[schemars(extend("minimum" = 0, "maximum" = RETRIES_MAX))]
    pub attempts: Option<i64>,
    /// HTTP statuses that are tried again, beside retryOn.
    #[schemars(extend("maxItems" = CODES_MAX, "x-kubernetes-list-type" = "set", "items" = code()))]
    pub codes: Option<Vec<i64>>,
    /// What else is tried again, in the words of circuitBreaker.failureOn; connect-failure, reset and timeout if absent.
    #[schemars(extend("maxItems" = FAILURES.len(), "x-kubernetes-list-type" = "set", "items" = failure()))]
    pub retry_on: Option<Vec<String>>,
    /// The pause before the first retry, as in 25ms, 1h at most; it doubles with each retry, and is jittered. 25ms if absent.
    #[schemars(extend(
        "pattern" = DURATION, "maxLength" = DURATION_CHARS_MAX, "x-kubernetes-validations" = validations(&[rules::BACKOFF_TIME])
    ))]
    pub backoff: Option<String>,
    /// How many retries there may be among all requests to a Service, for each node (GEP-3388); its defaults if absent.
    pub budget: Option<BudgetSpec>,
}

/// A retry budget, as XBackendTrafficPolicy has it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct BudgetSpec {
    /// Retries at most, in percent of those requests of the interval that may be retried, as their policy or their route says.
    #[schemars(extend("minimum" = 0, "maximum" = 100))]
    pub percent: i64,
    /// The time that is looked at, from 1s to 1h.
    #[schemars(extend(
        "pattern" = DURATION, "maxLength" = DURATION_CHARS_MAX, "x-kubernetes-validations" = validations(&[rules::BUDGET_TIME])
    ))]
    pub interval: String,
    /// Retries that are allowed in any case, so that a Service with few requests has some.
    pub min_retry_rate: RateSpec,
}

/// So many in so much time.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default)]
pub struct RateSpec {
    /// Retries in each interval.
    #[schemars(extend("minimum" = 1, "maximum" = COUNT_MAX))]
    pub count: i64,
    /// The interval, above 0s, 1h at most.
    #[schemars(extend(
        "pattern" = DURATION, "maxLength" = DURATION_CHARS_MAX, "x-kubernetes-validations" = validations(&[rules::RATE_TIME])
    ))]
    pub interval: String,
}

/// Timeouts. 0s means none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = validations(&[rules::SOME_TIMEOUT, rules::TIMEOUT_ORDER])))]
pub struct TimeoutSpec {
    /// For all attempts of a request together, as in 10s.
    #[schemars(extend("pattern" = DURATION, "maxLength" = DURATION_CHARS_MAX))]
    pub request: Option<String>,
    /// For each attempt, as in 250ms; not longer than request.
    #[schemars(extend("pattern" = DURATION, "maxLength" = DURATION_CHARS_MAX))]
    pub backend_request: Option<String>,
}

impl Default for CircuitBreakerSpec {
    fn default() -> Self {
        Self {
            failure_threshold: 5,
            success_threshold: 3,
            timeout: "30s".to_owned(),
            half_open_requests: 1,
            failure_on: ["connect-failure", "reset", "timeout", "5xx"].map(str::to_owned).into(),
            max_ejection_percent: 100,
            when_all_open: "FailFast".to_owned(),
        }
    }
}

impl Default for BudgetSpec {
    fn default() -> Self {
        Self {
            percent: 20,
            interval: "10s".to_owned(),
            min_retry_rate: RateSpec::default(),
        }
    }
}

impl Default for RateSpec {
    fn default() -> Self {
        Self {
            count: 10,
            interval: "1s".to_owned(),
        }
    }
}

fn service() -> String {
    "Service".to_owned()
}

fn failure() -> Value {
    json!({"type": "string", "enum": FAILURES})
}

fn code() -> Value {
    json!({"type": "integer", "format": "int64", "minimum": CODE_MIN, "maximum": CODE_MAX})
}

/// What became of a policy (GEP-713, PolicyStatus).
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub struct TrafficPolicyStatus {
    /// An entry for each Service that the policy targets and each controller that speaks of it.
    #[schemars(extend("maxItems" = TARGETS_MAX, "x-kubernetes-list-type" = "atomic"))]
    pub ancestors: Vec<PolicyAncestor>,
}

/// What became of a policy for one Service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PolicyAncestor {
    /// The Service.
    pub ancestor_ref: AncestorRef,
    /// Who wrote the entry: weft.mesh/mesh-daemon.
    #[schemars(extend("minLength" = 1, "maxLength" = 253))]
    pub controller_name: String,
    /// Accepted, with a reason.
    #[schemars(extend(
        "minItems" = 1, "maxItems" = 8, "x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]
    ))]
    pub conditions: Vec<PolicyCondition>,
}

/// The object that an entry of the status is about (Gateway API, ParentReference).
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AncestorRef {
    /// Its API group; empty for a Service.
    #[schemars(extend("maxLength" = 253))]
    pub group: Option<String>,
    /// Its kind.
    #[schemars(extend("minLength" = 1, "maxLength" = 63))]
    pub kind: Option<String>,
    /// Its namespace; the policy's if absent.
    #[schemars(extend("minLength" = 1, "maxLength" = 63))]
    pub namespace: Option<String>,
    /// Its name.
    #[schemars(extend("minLength" = 1, "maxLength" = 253))]
    pub name: String,
    /// A part of it: the name of a port.
    #[schemars(extend("minLength" = 1, "maxLength" = 253))]
    pub section_name: Option<String>,
    /// A port of it.
    #[schemars(extend("minimum" = 1, "maximum" = 65535))]
    pub port: Option<i64>,
}

/// A condition (Kubernetes API conventions).
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PolicyCondition {
    /// What it is about, as in Accepted.
    #[serde(rename = "type")]
    #[schemars(extend("minLength" = 1, "maxLength" = 316))]
    pub kind: String,
    /// True, False or Unknown.
    #[schemars(extend("enum" = ["True", "False", "Unknown"]))]
    pub status: String,
    /// The generation of the policy that was looked at.
    #[schemars(extend("minimum" = 0))]
    pub observed_generation: Option<i64>,
    /// When the status last became another.
    #[schemars(extend("format" = "date-time"))]
    pub last_transition_time: String,
    /// Why, in one word.
    #[schemars(extend("minLength" = 1, "maxLength" = 1024))]
    pub reason: String,
    /// Why, in one sentence that names the field.
    #[schemars(extend("maxLength" = 32768))]
    pub message: String,
}
