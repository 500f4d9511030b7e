//! What a schema cannot say: rules in CEL (Kubernetes: CRD validation rules) with the sentences for who breaks them, which
//! [`super::check`] repeats in Rust.

use serde_json::{Value, json};

/// A rule, and what to do about it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rule {
    cel: &'static str,
    pub(super) message: &'static str,
}

pub(super) const SOMETHING: Rule = Rule {
    cel: "has(self.loadBalancer) || has(self.circuitBreaker) || has(self.limits) || has(self.retry) || has(self.timeout)",
    message: "says nothing: give at least one of loadBalancer, circuitBreaker, limits, retry, timeout",
};
pub(super) const TARGETS_ONCE: Rule = Rule {
    cel: "self.all(a, self.exists_one(b, b.name == a.name))",
    message: "names a Service twice: name each once",
};
pub(super) const KEY_NEEDED: Rule = Rule {
    cel: "!(self.type in ['RingHash', 'Maglev']) || has(self.hashKey)",
    message: "RingHash and Maglev need hashKey: say which header, cookie or address decides",
};
pub(super) const KEY_FORBIDDEN: Rule = Rule {
    cel: "self.type in ['RingHash', 'Maglev'] || !has(self.hashKey)",
    message: "hashKey is for RingHash and Maglev alone: remove it, or change type",
};
pub(super) const NAME_NEEDED: Rule = Rule {
    cel: "self.type == 'SourceAddress' || has(self.name)",
    message: "Header and Cookie need name: say which one",
};
pub(super) const NAME_FORBIDDEN: Rule = Rule {
    cel: "self.type != 'SourceAddress' || !has(self.name)",
    message: "SourceAddress has no name: remove it, or change type",
};
pub(super) const BREAKER_TIME: Rule = Rule {
    cel: "duration(self) > duration('0s') && duration(self) <= duration('1h')",
    message: "must be above 0s and at most 1h",
};
pub(super) const BACKOFF_TIME: Rule = Rule {
    cel: "duration(self) <= duration('1h')",
    message: "must be at most 1h",
};
pub(super) const BUDGET_TIME: Rule = Rule {
    cel: "duration(self) >= duration('1s') && duration(self) <= duration('1h')",
    message: "must be from 1s to 1h",
};
pub(super) const RATE_TIME: Rule = BREAKER_TIME;
pub(super) const SOME_LIMIT: Rule = Rule {
    cel: "has(self.maxConnections) || has(self.maxRequests) || has(self.maxConnectionsPerEndpoint) || has(self.maxRequestsPerEndpoint)",
    message: "limits nothing: give at least one limit, or remove limits",
};
pub(super) const SOME_TIMEOUT: Rule = Rule {
    cel: "has(self.request) || has(self.backendRequest)",
    message: "times nothing: give request or backendRequest, or remove timeout",
};
pub(super) const TIMEOUT_ORDER: Rule = Rule {
    cel: "!has(self.request) || !has(self.backendRequest) || duration(self.request) == duration('0s') || \
          duration(self.backendRequest) <= duration(self.request)",
    message: "backendRequest is longer than request, which would end it first: lower it",
};

/// Rules as a schema carries them.
pub(super) fn validations(rules: &[Rule]) -> Value {
    let one = |rule: &Rule| json!({"rule": rule.cel, "message": rule.message});
    rules.iter().map(one).collect()
}
