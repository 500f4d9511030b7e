//! What became of routes and policies, in the words of their status (Gateway API conditions; GEP-713 for policies).

use std::collections::BTreeMap;

use super::{SetAside, http_route::RouteParent};
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

/// Routes with rules that cannot be applied, for Events, log and metrics beside their statuses. What may mend itself (a Service that is not there yet) is told
/// by the statuses alone; a policy's wrong spec is found where it is read.
pub(super) fn set_aside(routes: &BTreeMap<ObjectRef, RouteVerdict>) -> impl Iterator<Item = SetAside> {
    routes.iter().filter_map(|(name, verdict)| {
        let mut told = verdict.parents.iter().flat_map(|(_, told)| told);
        let fault = told.find(|condition| condition.is_of_rules())?;
        Some(SetAside {
            kind: "HTTPRoute".to_owned(),
            name: name.to_string(),
            reason: "unsupported_rule",
            detail: fault.message.clone(),
        })
    })
}

impl Condition {
    /// Whether it says that some or all rules of a route cannot be applied.
    fn is_of_rules(&self) -> bool {
        match self.kind {
            "PartiallyInvalid" => self.is_true,
            "Accepted" => ["UnsupportedValue", "IncompatibleFilters"].contains(&self.reason),
            _ => false,
        }
    }
}
