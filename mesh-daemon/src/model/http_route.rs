//! An HTTPRoute (gateway.networking.k8s.io/v1) with Services as parents, trimmed: what a mesh routes requests by (GEP-1294, GAMMA).

use core::time::Duration;

use serde::{Deserialize, Serialize};

use crate::ids::ObjectRef;

/// An HTTPRoute. Only its parents that are Services are kept; one that has none is not ours and is left out altogether.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HttpRoute {
    /// `metadata.generation`; 0 if the manifest has none.
    pub generation: i64,
    /// `metadata.creationTimestamp` in seconds since the epoch; absent counts as youngest.
    pub created: Option<i64>,
    /// `spec.parentRefs` that name Services.
    pub parents: Vec<RouteParent>,
    /// `spec.rules`, in their order.
    pub rules: Vec<RouteRule>,
}

/// A `parentRef` that names a Service, as it is written: its status repeats it field by field.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct RouteParent {
    /// `group`; absent or empty means the core group here, since only Services are kept.
    pub group: Option<String>,
    /// `kind`.
    pub kind: Option<String>,
    /// `namespace`; absent means the route's.
    pub namespace: Option<String>,
    /// `name`.
    pub name: String,
    /// `sectionName`: the name of a port.
    pub section_name: Option<String>,
    /// `port`.
    pub port: Option<u16>,
}

impl RouteParent {
    /// The Service that it names.
    pub fn service(&self, route: &ObjectRef) -> ObjectRef {
        ObjectRef::new(self.namespace.as_ref().unwrap_or(&route.namespace), &self.name)
    }
}

/// One of `spec.rules`.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct RouteRule {
    /// `name`.
    pub name: Option<String>,
    /// `matches`, any of which suffices: a rule without any has one that matches everything. A match that itself cannot be applied is left out
    /// and told in `faults`; a rule of which none can be has none, and matches nothing: nobody knows what it is for.
    pub matches: Vec<RouteMatch>,
    /// `filters`.
    pub filters: Filters,
    /// `backendRefs`.
    pub backends: Vec<BackendRef>,
    /// `timeouts`.
    pub timeouts: RouteTimeouts,
    /// `retry` (GEP-1731).
    pub retry: Option<RouteRetry>,
    /// What makes the rule one that cannot be applied. Empty for a rule that can.
    pub faults: Vec<RuleFault>,
}

/// Something of a rule that cannot be applied.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct RuleFault {
    /// Why.
    pub reason: RuleFaultReason,
    /// The field, as in `spec.rules[0].filters[1].type`.
    pub field: String,
    /// What is wrong with it, going on after the field's name: "`CORS` is not supported".
    pub detail: String,
}

/// The standard's reasons of `Accepted=False` (and `PartiallyInvalid=True`) that a rule can cause.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum RuleFaultReason {
    /// `UnsupportedValue`.
    UnsupportedValue,
    /// `IncompatibleFilters`.
    IncompatibleFilters,
}

/// One of a rule's `matches`: all of its parts must hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteMatch {
    /// `path`; absent in the manifest means the prefix `/`.
    pub path: PathMatch,
    /// `method`.
    pub method: Option<String>,
    /// `headers`: names in lower case, each once (of equal names the first counts, as the standard has it).
    pub headers: Vec<ValueMatch>,
    /// `queryParams`: names as written, each once.
    pub query: Vec<ValueMatch>,
}

/// `path` of a match.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PathMatch {
    /// `Exact`.
    Exact(String),
    /// `PathPrefix`, by whole segments; without a trailing `/`, so the prefix of everything is empty.
    Prefix(String),
    /// `RegularExpression`, of the whole path.
    Regex(String),
}

/// A header or query parameter that must be there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ValueMatch {
    /// Its name.
    pub name: String,
    /// What its value must be.
    pub value: ValuePattern,
}

/// What a value must be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ValuePattern {
    /// `Exact`.
    Exact(String),
    /// `RegularExpression`, of the whole value.
    Regex(String),
}

/// `filters` of a rule or a backend.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Filters {
    /// `RequestHeaderModifier`.
    pub request_headers: HeaderChanges,
    /// `ResponseHeaderModifier`.
    pub response_headers: HeaderChanges,
    /// `RequestRedirect`. Never at a backend.
    pub redirect: Option<Redirect>,
    /// `URLRewrite`.
    pub rewrite: Option<Rewrite>,
}

/// Changes of headers: set, then add, then remove. Names in lower case; names and values are such that HTTP can carry them.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct HeaderChanges {
    /// `set`: replaces.
    pub set: Vec<(String, String)>,
    /// `add`: appends.
    pub add: Vec<(String, String)>,
    /// `remove`.
    pub remove: Vec<String>,
}

/// `RequestRedirect`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Redirect {
    /// `scheme`: `http` or `https`.
    pub scheme: Option<String>,
    /// `hostname`.
    pub hostname: Option<String>,
    /// `path`.
    pub path: Option<PathChange>,
    /// `port`.
    pub port: Option<u16>,
    /// `statusCode`: 301, 302, 303, 307 or 308; 302 if absent.
    pub status: u16,
}

/// `URLRewrite`.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Rewrite {
    /// `hostname`: the new `Host` or `:authority`.
    pub hostname: Option<String>,
    /// `path`.
    pub path: Option<PathChange>,
}

/// `path` of a redirect or rewrite.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PathChange {
    /// `ReplaceFullPath`; the query stays.
    Full(String),
    /// `ReplacePrefixMatch`: of the prefix that matched. Only in rules whose matches are all of type `PathPrefix`.
    Prefix(String),
}

/// One of `backendRefs`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackendRef {
    /// What it names.
    pub target: BackendTarget,
    /// `weight`, 0 to 1,000,000; 1 if absent.
    pub weight: u32,
    /// `filters`, without redirects.
    pub filters: Filters,
}

/// What a backend names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum BackendTarget {
    /// A Service's port. `port` absent in the manifest is [`Self::InvalidKind`].
    Service {
        /// The Service; its namespace is the route's if absent.
        service: ObjectRef,
        /// The Service's port.
        port: u16,
    },
    /// A kind that is not a Service, with the sentence for `ResolvedRefs=False`, reason `InvalidKind`.
    InvalidKind(String),
}

/// `timeouts` of a rule; zero means none, and that is not the same as absent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct RouteTimeouts {
    /// `request`: for all attempts together.
    pub request: Option<Duration>,
    /// `backendRequest`: for each attempt.
    pub backend_request: Option<Duration>,
}

/// `retry` of a rule.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct RouteRetry {
    /// `codes`, 400 to 599, beside connection errors.
    pub codes: Option<Vec<u16>>,
    /// `attempts`: retries, the first try not counted.
    pub attempts: Option<u32>,
    /// `backoff`: before the first retry.
    pub backoff: Option<Duration>,
}
