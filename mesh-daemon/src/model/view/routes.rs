//! `/routes`: rules in the order in which requests meet them, and what became of each HTTPRoute.

use super::{
    super::{Action, Content, Redirect, RouteParent, RouteVerdict, Rule, RuleFailure, Snapshot, Target},
    ActionView, BackendView, NoSuchService, ParentView, RouteView, RoutesView, RuleView, conditions,
    edits::{self, filters},
    services, tables,
};
use crate::ids::ObjectRef;

/// All routes, or those of one Service.
///
/// # Errors
/// If the Service is known neither as such nor as a parent of a route.
pub fn routes_view(snapshot: &Snapshot, service: Option<&ObjectRef>) -> Result<RoutesView, NoSuchService> {
    let content = &snapshot.content;
    let routes = statuses(content, service);
    if let Some(service) = service
        && routes.is_empty()
        && !services(content).contains(service)
    {
        return Err(NoSuchService::new(service, content));
    }
    Ok(RoutesView {
        snapshot: snapshot.generation.0,
        rules: rules(content, service),
        routes,
    })
}

impl RoutesView {
    /// What concerns Services of this namespace.
    #[must_use]
    pub fn of_namespace(mut self, namespace: &str) -> Self {
        self.rules.retain(|rule| rule.service.namespace == namespace);
        for route in &mut self.routes {
            route.parents.retain(|parent| parent.service.namespace == namespace);
        }
        self.routes.retain(|route| !route.parents.is_empty());
        self
    }
}

fn rules(content: &Content, service: Option<&ObjectRef>) -> Vec<RuleView> {
    let mut rules = Vec::new();
    for ((service, port, clients), same) in tables(content, service) {
        for (table, addresses) in same {
            let matches = table.matches();
            rules.extend(matches.map(|(matches, rule)| RuleView {
                service: service.clone(),
                port,
                addresses: addresses.clone(),
                clients: clients.map(str::to_owned),
                matches,
                action: action(rule),
                filters: filters(&rule.edits),
                route: rule.route.clone(),
                generation: rule.generation,
                rule: rule.index,
                rule_name: rule.name.clone(),
            }));
        }
    }
    rules
}

fn action(rule: &Rule) -> ActionView {
    match &rule.action {
        Action::Forward(backends) => {
            let view = backends.list.iter().map(|backend| BackendView {
                name: match &backend.target {
                    Target::Upstream { v4, v6: _ } => format!("{}:{}", v4.service, v4.port),
                    Target::Unresolved { name } => name.clone(),
                },
                weight: backend.weight,
                is_resolved: matches!(backend.target, Target::Upstream { .. }),
                filters: filters(&backend.edits),
            });
            ActionView::Forward {
                backends: view.collect(),
            }
        }
        Action::Redirect(to) => redirect(to),
        Action::Fail(failure) => ActionView::Fail {
            reason: match failure {
                RuleFailure::Unsupported => "something in it is not supported",
                RuleFailure::NoBackend => "it has no backend",
                RuleFailure::NoWeight => "all its weights are 0",
            }
            .to_owned(),
        },
    }
}

fn redirect(to: &Redirect) -> ActionView {
    let Redirect {
        scheme,
        hostname,
        path,
        port,
        status,
    } = to;
    ActionView::Redirect {
        status: *status,
        scheme: scheme.clone(),
        hostname: hostname.clone(),
        port: *port,
        path: path.as_ref().map(edits::path),
    }
}

/// Of the routes that name the Service as a parent.
fn statuses(content: &Content, service: Option<&ObjectRef>) -> Vec<RouteView> {
    let views = content.route_verdicts.iter().filter_map(|(name, verdict)| {
        let RouteVerdict { generation, parents } = verdict;
        let parents = parents.iter().filter_map(|(parent, told)| {
            let RouteParent { section_name, port, .. } = parent;
            let named = parent.service(name);
            service.is_none_or(|service| *service == named).then(|| ParentView {
                service: named,
                section_name: section_name.clone(),
                port: *port,
                conditions: conditions(told),
            })
        });
        let parents: Vec<_> = parents.collect();
        (!parents.is_empty()).then(|| RouteView {
            route: name.clone(),
            generation: *generation,
            parents,
        })
    });
    views.collect()
}
