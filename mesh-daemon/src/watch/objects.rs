//! The store of trimmed objects that a source fills: what a list of every kind would say now.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::{Options, last_good};
use crate::{
    ids::ObjectRef,
    model::{EndpointSlice, Facts, HttpRoute, Inputs, Namespace, Node, Pod, Service, SetAside, TrafficPolicy, View},
};

/// The kinds that are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// v1 Namespace.
    Namespace,
    /// v1 Node.
    Node,
    /// v1 Pod.
    Pod,
    /// v1 Service.
    Service,
    /// discovery.k8s.io/v1 EndpointSlice.
    EndpointSlice,
    /// gateway.networking.k8s.io/v1 HTTPRoute.
    HttpRoute,
    /// weft.mesh/v1alpha1 TrafficPolicy.
    TrafficPolicy,
}

/// One object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Object {
    /// By name.
    Namespace(String, Namespace),
    /// By name.
    Node(String, Node),
    /// By namespace and name.
    Pod(ObjectRef, Pod),
    /// By namespace and name.
    Service(ObjectRef, Service),
    /// By namespace and name.
    EndpointSlice(ObjectRef, EndpointSlice),
    /// By namespace and name.
    HttpRoute(ObjectRef, HttpRoute),
    /// By namespace and name.
    TrafficPolicy(ObjectRef, Box<TrafficPolicy>),
}

/// All objects of a source.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Objects {
    /// By name.
    pub namespaces: BTreeMap<String, Namespace>,
    /// By name.
    pub nodes: BTreeMap<String, Node>,
    /// By namespace and name.
    pub pods: BTreeMap<ObjectRef, Pod>,
    /// By namespace and name.
    pub services: BTreeMap<ObjectRef, Service>,
    /// By namespace and name.
    pub endpoint_slices: BTreeMap<ObjectRef, EndpointSlice>,
    /// By namespace and name.
    #[serde(default)]
    pub routes: BTreeMap<ObjectRef, HttpRoute>,
    /// By namespace and name.
    #[serde(default)]
    pub policies: BTreeMap<ObjectRef, TrafficPolicy>,
    /// What was refused, and why. Not kept for a restart: the next list says it again.
    #[serde(skip)]
    pub refused: BTreeSet<SetAside>,
    /// Objects of kinds that are not read.
    #[serde(skip)]
    pub unknown: u64,
}

impl Objects {
    /// What the model is built from, on loan.
    pub fn view<'a>(&'a self, options: &'a Options, facts: &'a Facts) -> View<'a> {
        let Self {
            namespaces,
            nodes,
            pods,
            services,
            endpoint_slices,
            routes,
            policies,
            refused,
            unknown: _,
        } = self;
        View {
            node: &options.node,
            pod_cidrs: &options.pod_cidrs,
            namespaces,
            pods,
            services,
            endpoint_slices,
            nodes,
            routes,
            policies,
            facts,
            refused,
        }
    }

    /// What the model is built from, as a copy to keep.
    pub fn inputs(&self, options: &Options, facts: &Facts) -> Inputs {
        let Self {
            namespaces,
            nodes,
            pods,
            services,
            endpoint_slices,
            routes,
            policies,
            refused,
            unknown: _,
        } = self.clone();
        Inputs {
            node: options.node.clone(),
            pod_cidrs: options.pod_cidrs.clone(),
            namespaces,
            pods,
            services,
            endpoint_slices,
            nodes,
            routes,
            policies,
            facts: facts.clone(),
            refused,
        }
    }

    /// How many objects of a kind there are.
    pub fn count(&self, kind: Kind) -> usize {
        match kind {
            Kind::Namespace => self.namespaces.len(),
            Kind::Node => self.nodes.len(),
            Kind::Pod => self.pods.len(),
            Kind::Service => self.services.len(),
            Kind::EndpointSlice => self.endpoint_slices.len(),
            Kind::HttpRoute => self.routes.len(),
            Kind::TrafficPolicy => self.policies.len(),
        }
    }

    /// Adds or replaces an object.
    pub(super) fn insert(&mut self, object: Object) {
        match object {
            Object::Namespace(name, namespace) => drop(self.namespaces.insert(name, namespace)),
            Object::Node(name, node) => drop(self.nodes.insert(name, node)),
            Object::Pod(name, pod) => drop(self.pods.insert(name, pod)),
            Object::Service(name, service) => drop(self.services.insert(name, service)),
            Object::EndpointSlice(name, slice) => drop(self.endpoint_slices.insert(name, slice)),
            Object::HttpRoute(name, route) => drop(self.routes.insert(name, route)),
            Object::TrafficPolicy(name, policy) => drop(self.policies.insert(name, *policy)),
        }
    }

    /// Adds or replaces an object; says whether that changed anything.
    pub(super) fn put(&mut self, object: Object) -> bool {
        fn put<K: Ord, V: PartialEq>(map: &mut BTreeMap<K, V>, key: K, value: V) -> bool {
            if map.get(&key) == Some(&value) {
                return false;
            }
            map.insert(key, value);
            true
        }
        match object {
            Object::Namespace(name, namespace) => put(&mut self.namespaces, name, namespace),
            Object::Node(name, node) => put(&mut self.nodes, name, node),
            Object::Pod(name, pod) => put(&mut self.pods, name, pod),
            Object::Service(name, service) => put(&mut self.services, name, service),
            Object::EndpointSlice(name, slice) => put(&mut self.endpoint_slices, name, slice),
            Object::HttpRoute(name, route) => put(&mut self.routes, name, route),
            Object::TrafficPolicy(name, mut policy) => {
                if let Some(before) = self.policies.get(&name) {
                    last_good::inherit(&mut policy, before);
                }
                put(&mut self.policies, name, *policy)
            }
        }
    }

    /// Takes over what earlier objects know and these do not: the last valid specs of policies. Says whether there was any.
    pub(super) fn inherit(&mut self, before: &Self) -> bool {
        let mut changed = false;
        for (name, policy) in &mut self.policies {
            if let Some(before) = before.policies.get(name) {
                changed |= last_good::inherit(policy, before);
            }
        }
        changed
    }

    /// Takes an object away; says whether it was there.
    pub(super) fn remove(&mut self, kind: Kind, name: &ObjectRef) -> bool {
        match kind {
            Kind::Namespace => self.namespaces.remove(&name.name).is_some(),
            Kind::Node => self.nodes.remove(&name.name).is_some(),
            Kind::Pod => self.pods.remove(name).is_some(),
            Kind::Service => self.services.remove(name).is_some(),
            Kind::EndpointSlice => self.endpoint_slices.remove(name).is_some(),
            Kind::HttpRoute => self.routes.remove(name).is_some(),
            Kind::TrafficPolicy => self.policies.remove(name).is_some(),
        }
    }
}

impl Object {
    /// Kind and name: no two objects share them.
    pub(super) fn key(&self) -> (Kind, String) {
        match self {
            Self::Namespace(name, _) => (Kind::Namespace, name.clone()),
            Self::Node(name, _) => (Kind::Node, name.clone()),
            Self::Pod(name, _) => (Kind::Pod, name.to_string()),
            Self::Service(name, _) => (Kind::Service, name.to_string()),
            Self::EndpointSlice(name, _) => (Kind::EndpointSlice, name.to_string()),
            Self::HttpRoute(name, _) => (Kind::HttpRoute, name.to_string()),
            Self::TrafficPolicy(name, _) => (Kind::TrafficPolicy, name.to_string()),
        }
    }
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 7] = [
        Self::Namespace,
        Self::Node,
        Self::Pod,
        Self::Service,
        Self::EndpointSlice,
        Self::HttpRoute,
        Self::TrafficPolicy,
    ];

    /// As manifests and metrics write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Namespace => "Namespace",
            Self::Node => "Node",
            Self::Pod => "Pod",
            Self::Service => "Service",
            Self::EndpointSlice => "EndpointSlice",
            Self::HttpRoute => "HTTPRoute",
            Self::TrafficPolicy => "TrafficPolicy",
        }
    }

    /// As people speak of many.
    pub fn plural(self) -> &'static str {
        match self {
            Self::Namespace => "Namespaces",
            Self::Node => "Nodes",
            Self::Pod => "Pods",
            Self::Service => "Services",
            Self::EndpointSlice => "EndpointSlices",
            Self::HttpRoute => "HTTPRoutes",
            Self::TrafficPolicy => "TrafficPolicies",
        }
    }

    /// Whether it is of a CustomResourceDefinition, which may be missing, or come and go.
    pub(super) fn is_optional(self) -> bool {
        matches!(self, Self::HttpRoute | Self::TrafficPolicy)
    }

    /// Whether its objects live in Namespaces.
    pub(super) fn is_namespaced(self) -> bool {
        !matches!(self, Self::Namespace | Self::Node)
    }

    /// From a manifest's `apiVersion` and `kind`.
    pub(super) fn of(api_version: &str, kind: &str) -> Option<Self> {
        Some(match (api_version, kind) {
            ("v1", "Namespace") => Self::Namespace,
            ("v1", "Node") => Self::Node,
            ("v1", "Pod") => Self::Pod,
            ("v1", "Service") => Self::Service,
            ("discovery.k8s.io/v1", "EndpointSlice") => Self::EndpointSlice,
            ("gateway.networking.k8s.io/v1", "HTTPRoute") => Self::HttpRoute,
            ("weft.mesh/v1alpha1", "TrafficPolicy") => Self::TrafficPolicy,
            _ => return None,
        })
    }
}
