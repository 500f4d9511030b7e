//! What became of routes and policies, in the words of their status (Gateway API conditions; GEP-713 for policies).

use super::http_route::RouteParent;
use crate::ids::ObjectRef;

/// What became of one HTTPRoute: an entry for each of its parents that is a Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteVerdict {
    /// The generation that was looked at.
    pub generation: i64,
    /// For each parent, in the order of the spec.
    pub parents: Vec<(RouteParent, Vec<Condition>)>,
}

/// What became of one TrafficPolicy: an entry for each of its targets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyVerdict {
    /// The generation that was looked at.
    pub generation: i64,
    /// For each target, in the order of the spec.
    pub ancestors: Vec<(ObjectRef, Vec<Condition>)>,
}

/// A condition, without times: those are the writer's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    /// `type`: `Accepted`, `ResolvedRefs`, `PartiallyInvalid` …
    pub kind: &'static str,
    /// `status`: `True` or `False`.
    pub is_true: bool,
    /// `reason`, of the standard's closed set.
    pub reason: &'static str,
    /// `message`: one sentence that names the field.
    pub message: String,
}
