//! The routes of all service addresses and ports, and what became of each HTTPRoute.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::Arc,
};

use super::{
    super::{
        Content, HttpRoute, RequestSettings, RouteVerdict, SetAside, Upstream, UpstreamKey, View, upstreams::Endpoints,
    },
    Action, Patterns, RouteTable, Routes, Rule, Target, attach,
    backends::Resolver,
    compile::Compiled,
    conditions::conditions,
    patterns::Compiler,
    table::Candidate,
};
use crate::ids::ObjectRef;

/// What routes are built from, beside themselves.
pub(in super::super) struct World<'a> {
    /// Routes and Services.
    pub inputs: &'a View<'a>,
    /// Who stands behind Services.
    pub endpoints: &'a Endpoints<'a>,
    /// Service addresses and ports, already shared with the earlier build.
    pub upstreams: &'a BTreeMap<SocketAddr, Arc<Upstream>>,
    /// What to share with.
    pub earlier: Option<&'a Content>,
}

/// What comes of routes.
#[derive(Default)]
pub(in super::super) struct Routed {
    /// As [`Content::routes`].
    pub routes: Routes,
    /// As [`Content::backends`].
    pub backends: BTreeMap<UpstreamKey, Arc<Upstream>>,
    /// As [`Content::route_verdicts`].
    pub verdicts: BTreeMap<ObjectRef, RouteVerdict>,
    /// As [`Content::patterns`].
    pub patterns: Patterns,
}

/// One address and port, and whose clients: those of a namespace, or all (none).
type Group<'a> = (SocketAddr, Option<&'a str>);

/// The routes of a group by name, whose order is that of `namespace/name`: all are of one namespace.
type Groups<'a> = BTreeMap<Group<'a>, BTreeSet<&'a ObjectRef>>;

/// Builds all routes.
pub(in super::super) fn all(world: &World<'_>, set_aside: &mut BTreeSet<SetAside>) -> Routed {
    let mut patterns = Compiler::after(world.earlier.map(|earlier| &earlier.patterns));
    let mut resolver = Resolver::new(world, set_aside);
    let mut compiled = BTreeMap::new();
    let mut groups = Groups::new();
    let mut verdicts = BTreeMap::new();
    for (name, route) in by_age(world) {
        let rules = Compiled::of(route, &mut patterns, &mut resolver);
        let verdict = attach_to_parents(world, name, route, &rules, &mut groups);
        verdicts.insert(name.clone(), verdict);
        compiled.insert(name, rules);
    }
    let routes = tables(world, &groups, &compiled);
    Routed {
        backends: backends(&routes),
        routes,
        verdicts,
        patterns: patterns.into_patterns(),
    }
}

/// Routes from the oldest to the youngest (one without a time is the youngest), then by name: in this order they have the room for patterns.
fn by_age<'a>(world: &World<'a>) -> Vec<(&'a ObjectRef, &'a HttpRoute)> {
    let mut routes: Vec<_> = world.inputs.routes.iter().collect();
    routes.sort_by_key(|(name, route)| (route.created.is_none(), route.created, *name));
    routes
}

fn attach_to_parents<'a>(
    world: &World<'a>,
    name: &'a ObjectRef,
    route: &HttpRoute,
    rules: &Compiled,
    groups: &mut Groups<'a>,
) -> RouteVerdict {
    let mut parents = Vec::with_capacity(route.parents.len());
    for parent in &route.parents {
        let addresses = attach::addresses(world, name, parent);
        let conditions = conditions(name, route, rules, parent, addresses.as_ref().err());
        parents.push((parent.clone(), conditions));
        if !rules.attaches() {
            continue;
        }
        let is_consumer = parent.service(name).namespace != name.namespace;
        let clients = is_consumer.then_some(name.namespace.as_str());
        for address in addresses.unwrap_or_default() {
            groups.entry((address, clients)).or_default().insert(name);
        }
    }
    RouteVerdict {
        generation: route.generation,
        parents,
    }
}

fn tables(world: &World<'_>, groups: &Groups<'_>, compiled: &BTreeMap<&ObjectRef, Compiled>) -> Routes {
    let mut routes = Routes::new();
    // the addresses and ports of a Service mostly have the same routes
    let mut known: BTreeMap<(&ObjectRef, &BTreeSet<&ObjectRef>), Arc<RouteTable>> = BTreeMap::new();
    for ((address, clients), names) in groups {
        let Some(addressed) = world.upstreams.get(address) else {
            continue;
        };
        let table = known.entry((&addressed.service, names)).or_insert_with(|| {
            let earlier = world
                .earlier
                .and_then(|earlier| earlier.routes.get(address)?.of_group(*clients));
            shared(table(world, addressed, names, compiled), earlier)
        });
        let of_service = routes.entry(*address).or_default();
        match clients {
            None => of_service.producer = Some(Arc::clone(table)),
            Some(namespace) => drop(of_service.consumers.insert((*namespace).to_owned(), Arc::clone(table))),
        }
    }
    routes
}

fn shared(table: RouteTable, earlier: Option<&Arc<RouteTable>>) -> Arc<RouteTable> {
    match earlier.filter(|earlier| ***earlier == table) {
        Some(earlier) => Arc::clone(earlier),
        None => Arc::new(table),
    }
}

fn table(
    world: &World<'_>,
    addressed: &Upstream,
    names: &BTreeSet<&ObjectRef>,
    compiled: &BTreeMap<&ObjectRef, Compiled>,
) -> RouteTable {
    let routes = names
        .iter()
        .filter_map(|name| Some((*name, world.inputs.routes.get(*name)?, compiled.get(*name)?)));
    RouteTable::new(
        routes
            .flat_map(|(name, route, rules)| candidates(addressed, name, route, rules))
            .collect(),
    )
}

fn candidates(addressed: &Upstream, name: &ObjectRef, route: &HttpRoute, compiled: &Compiled) -> Vec<Candidate> {
    let mut candidates = Vec::new();
    for (index, (spec, rule)) in (0..).zip(route.rules.iter().zip(&compiled.rules)) {
        let ready = Arc::new(Rule {
            route: name.clone(),
            generation: route.generation,
            index,
            name: spec.name.clone(),
            action: rule.action.clone(),
            edits: rule.edits.clone(),
            settings: Arc::new(RequestSettings::of(
                spec.timeouts,
                spec.retry.as_ref(),
                addressed.spec(),
            )),
            timeouts: spec.timeouts,
            retry: spec.retry.clone(),
        });
        candidates.extend(rule.matchers.iter().map(|matcher| Candidate {
            matcher: Arc::clone(matcher),
            rule: Arc::clone(&ready),
            created: route.created,
        }));
    }
    candidates
}

/// The upstreams that rules send to.
fn backends(routes: &Routes) -> BTreeMap<UpstreamKey, Arc<Upstream>> {
    let groups = routes.values().flat_map(|of_service| of_service.groups());
    let rules = groups.flat_map(|(_, table)| &table.rules);
    let targets = rules.filter_map(|rule| match &rule.action {
        Action::Forward(backends) => Some(backends.list.iter().map(|backend| &backend.target)),
        Action::Redirect(_) | Action::Fail(_) => None,
    });
    targets
        .flatten()
        .flat_map(Target::upstreams)
        .map(|upstream| (upstream.key(), Arc::clone(upstream)))
        .collect()
}
