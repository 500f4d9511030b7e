//! This node's pods as their conditions stand in the API: what the status writer compares with.

use std::collections::BTreeMap;

use crate::ids::ObjectRef;

/// The condition's type: people look for it, and readiness gates name it.
pub(super) const CONDITION_TYPE: &str = "weft.mesh/Captured";

/// Pods whose `spec.nodeName` is this node, by namespace and name.
pub(super) type LocalPods = BTreeMap<ObjectRef, LocalPod>;

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct LocalPod {
    /// `metadata.uid`.
    pub(super) uid: String,
    /// Whether `spec.readinessGates` asks for the condition [`CONDITION_TYPE`].
    pub(super) is_gated: bool,
    /// The condition [`CONDITION_TYPE`], if `status.conditions` has it.
    pub(super) captured: Option<Condition>,
}

/// A pod condition (Kubernetes: Pod Lifecycle, "Pod conditions"), without its type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Condition {
    /// `True`, `False` or `Unknown`.
    pub(super) status: String,
    /// One word in camel case.
    pub(super) reason: String,
    /// One sentence.
    pub(super) message: String,
}
