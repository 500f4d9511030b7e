//! Where a connection or request goes: pure, from one view of the tables.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Instant,
};

use http::request;

use super::{
    budget::Budget,
    choose, dial,
    identify::Connection,
    limits::Permit,
    live::{Group, ServiceLive, Tables},
    outcome::{Failure, Limit, Parties},
};
use crate::model::{
    Action, AppProtocol, Backends, Edits, Family, Matched, PathChange, RequestSettings, RetryBudget, RouteBackend,
    RouteTable, Rule, Target, Upstream, Workload,
};

/// Where the attempts of one connection or request may go. It holds the tables that it was made from, and uses no other to its end.
pub(super) struct Plan {
    tables: Arc<Tables>,
    client: IpAddr,
    destination: SocketAddr,
    /// The Service that the client addressed, if the destination is one.
    addressed: Option<Arc<Upstream>>,
    /// Whose endpoints are tried: the Service's own, or those of a route's backend. None if the destination is no Service.
    pub group: Option<Arc<Group>>,
    /// Timeouts and retries.
    pub settings: Arc<RequestSettings>,
    /// The rule that sent it here, and which of its backends.
    pub routed: Option<Routed>,
}

/// A rule that matched, and what it takes to do what it says.
pub(super) struct Routed {
    /// The rule.
    pub rule: Arc<Rule>,
    /// The backend that the weights chose; none where the rule answers itself.
    backend: Option<usize>,
    /// The path prefix that matched, if something is to take its place.
    pub prefix: Option<Box<str>>,
}

/// What is to be done with a request.
pub(super) enum Decision {
    /// It goes on.
    Forward(Plan),
    /// It is answered with the rule's redirect.
    Redirect(Routed),
    /// It is refused.
    Refuse(Failure, Option<Arc<Rule>>),
}

/// One place to connect to.
#[derive(Clone, Debug)]
pub(super) struct Candidate {
    /// Its address.
    pub address: SocketAddr,
    /// The pod that owns it, if it is known.
    pub workload: Option<Arc<Workload>>,
    /// The address from which it is dialled.
    pub source: dial::Source,
}

/// What the destination's Service says about the protocol.
pub(super) fn hint(tables: &Tables, destination: SocketAddr) -> AppProtocol {
    let upstream = tables.snapshot.content.upstream(destination);
    upstream.map_or(AppProtocol::Detect, |upstream| upstream.app_protocol)
}

/// The rules that requests of a connection meet; none if its destination is not routed for its client.
pub(super) fn table<'t>(tables: &'t Tables, connection: &Connection) -> Option<&'t Arc<RouteTable>> {
    let namespace = connection.source.as_ref().map(|pod| pod.pod.namespace.as_str());
    tables.snapshot.content.route_table(namespace, connection.destination)
}

/// Who takes part, as far as it is known before an endpoint is connected.
pub(super) fn parties(tables: &Tables, connection: &Connection) -> Parties {
    Parties {
        source: connection.source.clone(),
        destination: None,
        service: tables.snapshot.content.upstream(connection.destination).cloned(),
    }
}

/// Without routes: an upstream's own endpoints, else the destination itself, be it a pod or unknown.
pub(super) fn direct(tables: &Arc<Tables>, connection: &Connection) -> Plan {
    let addressed = tables.snapshot.content.upstream(connection.destination).cloned();
    let settings = addressed.as_ref().map(|upstream| Arc::clone(&upstream.settings));
    Plan {
        tables: Arc::clone(tables),
        client: connection.client.ip(),
        destination: connection.destination,
        group: addressed.as_ref().and_then(|upstream| tables.group(upstream)).cloned(),
        addressed,
        settings: settings.unwrap_or_default(),
        routed: None,
    }
}

/// Decides for one request. `draw` is a random number below the one that it is given: it chooses among weighted backends.
pub(super) fn request(
    tables: &Arc<Tables>,
    connection: &Connection,
    head: &request::Parts,
    draw: impl FnOnce(u64) -> u64,
) -> Decision {
    let Some(table) = table(tables, connection) else {
        return Decision::Forward(direct(tables, connection));
    };
    let Some(Matched { rule, prefix }) = table.find(&head.method, &head.uri, &head.headers) else {
        return Decision::Refuse(Failure::NoRoute, None);
    };
    let routed = |backend, uses_prefix: bool| Routed {
        rule: Arc::clone(rule),
        backend,
        prefix: prefix.filter(|_| uses_prefix).map(Into::into),
    };
    match &rule.action {
        Action::Fail(failure) => {
            let failure = Failure::RouteFailed(*failure, format!("{} rule {}", rule.route, rule.index));
            Decision::Refuse(failure, Some(Arc::clone(rule)))
        }
        Action::Redirect(redirect) => {
            Decision::Redirect(routed(None, matches!(redirect.path, Some(PathChange::Prefix(_)))))
        }
        Action::Forward(backends) => {
            let (index, backend) = drawn(backends, draw(backends.total_weight));
            let uses_prefix = [&rule.edits, &backend.edits].into_iter().any(replaces_prefix);
            forward(tables, connection, backend, routed(Some(index), uses_prefix))
        }
    }
}

fn forward(tables: &Arc<Tables>, connection: &Connection, backend: &RouteBackend, routed: Routed) -> Decision {
    let family = Family::of(connection.destination.ip());
    let Some(upstream) = backend.target.upstream(family) else {
        let name = match &backend.target {
            Target::Unresolved { name } => name.clone(),
            Target::Upstream { .. } => String::new(),
        };
        return Decision::Refuse(Failure::BackendUnresolved(name), Some(routed.rule));
    };
    let Some(group) = tables.group(upstream) else {
        // live state is made of the same snapshot: this cannot be
        return Decision::Refuse(Failure::NoEndpoint, Some(routed.rule));
    };
    Decision::Forward(Plan {
        group: Some(Arc::clone(group)),
        settings: Arc::clone(&routed.rule.settings),
        routed: Some(routed),
        ..direct(tables, connection)
    })
}

/// The backend in whose share the number lies.
fn drawn(backends: &Backends, mut number: u64) -> (usize, &RouteBackend) {
    let mut last = 0;
    for (index, backend) in backends.list.iter().enumerate() {
        let weight = u64::from(backend.weight);
        if number < weight {
            return (index, backend);
        }
        number -= weight;
        last = index;
    }
    (last, &backends.list[last])
}

fn replaces_prefix(edits: &Edits) -> bool {
    let path = edits.rewrite.as_ref().and_then(|rewrite| rewrite.path.as_ref());
    matches!(path, Some(PathChange::Prefix(_)))
}

impl Plan {
    /// The group's endpoint as a place to connect to.
    pub(super) fn candidate(&self, group: &Group, index: usize) -> Candidate {
        let endpoint = &group.upstream.endpoints[index];
        self.place(endpoint.address, endpoint.workload.clone())
    }

    /// The destination itself as a place to connect to.
    pub(super) fn itself(&self) -> Candidate {
        let workload = self.tables.snapshot.content.workload(self.destination.ip()).cloned();
        self.place(self.destination, workload)
    }

    /// The pod that owns an endpoint's address, if it is known.
    pub(super) fn owner(&self, endpoint: SocketAddr) -> Option<Arc<Workload>> {
        self.tables.snapshot.content.workload(endpoint.ip()).cloned()
    }

    fn place(&self, address: SocketAddr, workload: Option<Arc<Workload>>) -> Candidate {
        Candidate {
            address,
            workload,
            source: dial::source(&self.tables.snapshot.content, self.client, address.ip()),
        }
    }

    /// The path prefix that matched, if something is to take its place.
    pub(super) fn prefix(&self) -> Option<&str> {
        self.routed.as_ref().and_then(|routed| routed.prefix.as_deref())
    }

    /// A place among the requests in flight to the Service whose endpoints are tried; counts for the retry budget of the one that was addressed.
    ///
    /// # Errors
    /// If there are as many as its policy allows.
    pub(super) fn enter(&self) -> Result<Option<Permit>, Failure> {
        let Some(group) = &self.group else { return Ok(None) };
        let most = choose::limits_of(&group.upstream).max_requests;
        let permit = group.service.requests.try_acquire(most);
        let permit = permit.ok_or(Failure::Overflow(Limit::Requests))?;
        if let (Some(_), Some(service)) = (&self.settings.retry, self.addressed_live()) {
            service.budget.request();
        }
        Ok(Some(permit))
    }

    /// Whether the budget of the Service that was addressed has room for a retry now; another may be faster.
    pub(super) fn has_budget(&self) -> bool {
        self.budget(Budget::has_room)
    }

    /// The same, and the room is taken.
    pub(super) fn pay_retry(&self) -> bool {
        self.budget(Budget::try_retry)
    }

    fn budget(&self, ask: impl FnOnce(&Budget, &RetryBudget, Instant) -> bool) -> bool {
        match (&self.settings.retry, self.addressed_live()) {
            (Some(retry), Some(service)) => ask(&service.budget, &retry.budget, Instant::now()),
            _ => false,
        }
    }

    fn addressed_live(&self) -> Option<&Arc<ServiceLive>> {
        let addressed = self.addressed.as_ref()?;
        Some(&self.tables.group(addressed)?.service)
    }

    /// Changes of the request and its answer: the rule's, then the backend's.
    pub(super) fn edits(&self) -> impl Iterator<Item = &Edits> {
        self.routed.iter().flat_map(Routed::edits)
    }
}

impl Routed {
    fn edits(&self) -> impl Iterator<Item = &Edits> {
        let backend = match (&self.rule.action, self.backend) {
            (Action::Forward(backends), Some(index)) => Some(&backends.list[index].edits),
            _ => None,
        };
        std::iter::once(&self.rule.edits).chain(backend)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_number_lies_in_the_share_of_one_backend() {
        let backend = |weight| RouteBackend {
            weight,
            target: Target::Unresolved {
                name: "shop/web:80".into(),
            },
            edits: Edits::default(),
        };
        let backends = Backends {
            list: [0, 9, 1, 0].map(backend).into(),
            total_weight: 10,
        };
        let drawn: Vec<_> = (0..10).map(|number| drawn(&backends, number).0).collect();
        assert_eq!(
            drawn,
            [1, 1, 1, 1, 1, 1, 1, 1, 1, 2],
            "a backend of weight 0 has no share"
        );
    }
}
