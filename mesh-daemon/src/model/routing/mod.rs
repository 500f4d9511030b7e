//! Routes as requests meet them: for each service address and port, rules in the order of their precedence. Matching is pure.

mod pattern;
mod patterns;
mod matcher;
mod table;
mod compile;
mod backends;
mod attach;
mod conditions;
mod build;

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc};

use http::{HeaderName, HeaderValue};

use super::{
    http_route::{Redirect, Rewrite, RouteRetry, RouteTimeouts},
    request_settings::RequestSettings,
    snapshot::{Family, Upstream},
};
use crate::ids::ObjectRef;

pub(super) use build::{World, all};
pub use patterns::Patterns;
pub use table::{Matched, RouteTable};

/// The routes of every service address and port that has any.
pub type Routes = BTreeMap<SocketAddr, ServiceRoutes>;

/// The routes of one service address and port (GEP-1294): those of the Service's own namespace hold for every client, those of another for the
/// clients of that namespace alone, in place of the former.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct ServiceRoutes {
    /// Of the Service's own namespace.
    pub producer: Option<Arc<RouteTable>>,
    /// By the clients' namespace.
    pub consumers: BTreeMap<String, Arc<RouteTable>>,
}

impl ServiceRoutes {
    /// The rules for a client; none if the Service is not routed for it. A client of no known namespace has the producer's.
    pub fn of_client(&self, namespace: Option<&str>) -> Option<&Arc<RouteTable>> {
        let own = namespace.and_then(|namespace| self.consumers.get(namespace));
        own.or(self.producer.as_ref())
    }

    /// The rules of one group exactly: of the clients of a namespace, or the producer's (none).
    fn of_group(&self, clients: Option<&str>) -> Option<&Arc<RouteTable>> {
        match clients {
            Some(namespace) => self.consumers.get(namespace),
            None => self.producer.as_ref(),
        }
    }

    /// All groups: the producer's, without a namespace of clients, then those of consumers.
    pub fn groups(&self) -> impl Iterator<Item = (Option<&str>, &Arc<RouteTable>)> {
        let consumers = self.consumers.iter();
        let consumers = consumers.map(|(namespace, table)| (Some(namespace.as_str()), table));
        self.producer.iter().map(|table| (None, table)).chain(consumers)
    }
}

/// What happens to a request that one rule matched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// The HTTPRoute.
    pub route: ObjectRef,
    /// Its `metadata.generation`.
    pub generation: i64,
    /// Which of its rules, from 0.
    pub index: usize,
    /// The rule's `name`.
    pub name: Option<String>,
    /// What to do.
    pub action: Action,
    /// Changes of headers and URL, before those of the backend.
    pub edits: Edits,
    /// Timeouts and retries.
    pub settings: Arc<RequestSettings>,
    /// Of these, what the rule itself says; `settings` has what holds.
    pub timeouts: RouteTimeouts,
    /// As `timeouts`.
    pub retry: Option<RouteRetry>,
}

/// What a rule does with a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Sends it to one of these, by weight.
    Forward(Backends),
    /// Answers with a redirect.
    Redirect(Redirect),
    /// Answers 500: the rule cannot be applied, or has no backend and no answer of its own.
    Fail(RuleFailure),
}

/// Why a rule answers 500 whatever the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RuleFailure {
    /// Something in it is not supported.
    Unsupported,
    /// No backend, and no filter that answers.
    NoBackend,
    /// All weights are 0.
    NoWeight,
}

/// Weighted backends; the sum of weights is above 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backends {
    /// In the order of the rule; a weight may be 0.
    pub list: Vec<RouteBackend>,
    /// Sum of the weights.
    pub total_weight: u64,
}

/// One of a rule's backends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteBackend {
    /// Its share of `total_weight`.
    pub weight: u32,
    /// Where its share goes.
    pub target: Target,
    /// Changes of headers and URL after those of the rule.
    pub edits: Edits,
}

/// Where a backend's share of requests goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// To a Service's endpoints.
    Upstream {
        /// The endpoints that are reached by IPv4; it may have none.
        v4: Arc<Upstream>,
        /// The endpoints that are reached by IPv6; it may have none.
        v6: Arc<Upstream>,
    },
    /// To nobody: 500. The backend is missing or invalid (`ResolvedRefs=False`).
    Unresolved {
        /// As in `shop/web:80`.
        name: String,
    },
}

/// Changes of a request and its answer.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Edits {
    /// Of the request's headers.
    pub request: HeaderEdits,
    /// Of the answer's headers.
    pub response: HeaderEdits,
    /// Of the request's host and path.
    pub rewrite: Option<Rewrite>,
}

/// Changes of headers, ready to be made: set, then add, then remove.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct HeaderEdits {
    /// Replaces.
    pub set: Vec<(HeaderName, HeaderValue)>,
    /// Appends.
    pub add: Vec<(HeaderName, HeaderValue)>,
    /// Removes.
    pub remove: Vec<HeaderName>,
}

impl Target {
    /// The upstreams of both families; none if nobody can be sent to.
    pub fn upstreams(&self) -> impl Iterator<Item = &Arc<Upstream>> {
        let both = match self {
            Self::Upstream { v4, v6 } => [Some(v4), Some(v6)],
            Self::Unresolved { .. } => [None, None],
        };
        both.into_iter().flatten()
    }

    /// The upstream for a client of this family; the other family's where this one has no endpoint.
    pub fn upstream(&self, family: Family) -> Option<&Arc<Upstream>> {
        let Self::Upstream { v4, v6 } = self else { return None };
        let (own, other) = match family {
            Family::V4 => (v4, v6),
            Family::V6 => (v6, v4),
        };
        Some(if own.endpoints.is_empty() && !other.endpoints.is_empty() {
            other
        } else {
            own
        })
    }
}
