//! What people are shown of routes and policies at the admin socket: plain values whose field names are the form of their JSON. Names once given stay, since
//! scripts read them.

mod routes;
mod edits;
mod policy;
mod words;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    net::IpAddr,
};

use serde::{Deserialize, Serialize};

use super::{Condition, Content};
use crate::ids::ObjectRef;

pub use edits::{FilterView, HeaderView, PathChangeView};
pub use policy::{policies_view, policy_view};
pub use routes::routes_view;
pub use words::balancer_name;

/// Most Services that the sentence about a missing one names: enough to see a slip of the hand, and still one line.
const NAMED_MAX: usize = 5;

/// The answer to `/routes`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RoutesView {
    /// Generation of the snapshot that it was taken from.
    pub snapshot: u64,
    /// Every match of every rule that requests can meet: by Service, port and clients, then in the order of precedence.
    pub rules: Vec<RuleView>,
    /// What became of each HTTPRoute.
    pub routes: Vec<RouteView>,
}

/// One match of a rule at one port of a Service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RuleView {
    /// The Service that clients address.
    pub service: ObjectRef,
    /// Its port.
    pub port: u16,
    /// Its addresses at which this holds.
    pub addresses: Vec<IpAddr>,
    /// The namespace whose clients it holds for; none: all that have no routes of their own.
    pub clients: Option<String>,
    /// What a request must be like, in words.
    #[serde(rename = "match")]
    pub matches: String,
    /// What is done with it.
    pub action: ActionView,
    /// What is changed in the request and its answer, before a backend's own changes.
    pub filters: Vec<FilterView>,
    /// The HTTPRoute.
    pub route: ObjectRef,
    /// Its generation.
    pub generation: i64,
    /// Which of its rules, from 0.
    pub rule: usize,
    /// The rule's name.
    pub rule_name: Option<String>,
}

/// What a rule does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum ActionView {
    /// Sends requests to one of these, by weight.
    Forward {
        /// In the order of the rule.
        backends: Vec<BackendView>,
    },
    /// Answers with a redirect; what is absent stays as it is in the request.
    Redirect {
        /// The status.
        status: u16,
        /// The new scheme.
        scheme: Option<String>,
        /// The new host.
        hostname: Option<String>,
        /// The new port.
        port: Option<u16>,
        /// How the path changes.
        path: Option<PathChangeView>,
    },
    /// Answers 500.
    Fail {
        /// Why, as a sentence without its subject.
        reason: String,
    },
}

/// One backend of a rule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BackendView {
    /// As in `shop/web:80`.
    pub name: String,
    /// Its share of the sum of all weights.
    pub weight: u32,
    /// False: it does not exist or cannot be one, and its share is answered with 500.
    pub is_resolved: bool,
    /// What is changed in requests to it and their answers, after the rule's own changes.
    pub filters: Vec<FilterView>,
}

/// What became of an HTTPRoute.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RouteView {
    /// The HTTPRoute.
    pub route: ObjectRef,
    /// The generation that was looked at.
    pub generation: i64,
    /// Its parents that are Services, in the order of the spec.
    pub parents: Vec<ParentView>,
}

/// What became of an HTTPRoute at one parent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ParentView {
    /// The Service.
    pub service: ObjectRef,
    /// `sectionName`: the name of the port.
    pub section_name: Option<String>,
    /// `port`.
    pub port: Option<u16>,
    /// As `kubectl` shows them where there is an API server.
    pub conditions: Vec<ConditionView>,
}

/// A condition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ConditionView {
    /// `Accepted` …
    #[serde(rename = "type")]
    pub kind: String,
    /// `True` or `False`.
    pub status: String,
    /// One word.
    pub reason: String,
    /// One sentence.
    pub message: String,
}

/// The answer to `/policy`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PolicyView {
    /// Generation of the snapshot that it was taken from.
    pub snapshot: u64,
    /// The Service.
    pub service: ObjectRef,
    /// False: no such Service is known, but it is named as a target; then there are no settings.
    pub is_known: bool,
    /// The TrafficPolicy that holds for it, with the generation of the spec that serves.
    pub policy: Option<PolicyRef>,
    /// What holds: of its endpoints, and of requests that are addressed to it and meet no rule of a route.
    pub settings: Vec<SettingView>,
    /// What holds for requests that are addressed to it and meet these rules. Only rules that send to backends.
    pub rules: Vec<RuleSettingsView>,
    /// What became of each TrafficPolicy that names it as a target, the one that holds among them.
    pub policies: Vec<PolicyStatusView>,
}

/// The answer to `/policy` without a Service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PoliciesView {
    /// Generation of the snapshot that it was taken from.
    pub snapshot: u64,
    /// Each TrafficPolicy.
    pub policies: Vec<PolicyTargetsView>,
}

/// What became of a TrafficPolicy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PolicyTargetsView {
    /// The TrafficPolicy.
    pub policy: ObjectRef,
    /// The generation that was looked at.
    pub generation: i64,
    /// Its targets, in the order of the spec.
    pub targets: Vec<TargetView>,
}

/// What became of a TrafficPolicy at one target.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TargetView {
    /// The Service, whether there is such a one or not.
    pub service: ObjectRef,
    /// As `kubectl` shows them where there is an API server.
    pub conditions: Vec<ConditionView>,
}

/// A spec of a TrafficPolicy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PolicyRef {
    /// The TrafficPolicy.
    pub name: ObjectRef,
    /// The generation of the spec.
    pub generation: i64,
}

/// One setting.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SettingView {
    /// The field of a TrafficPolicy's spec, as in `timeout.request`.
    pub field: String,
    /// Its value, as a manifest has it; `none` where there is none.
    pub value: String,
    /// Who says so.
    pub from: FromView,
}

/// Who says so.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FromView {
    /// `TrafficPolicy`, `HTTPRoute` or `default`.
    pub kind: String,
    /// The object; none for a default.
    pub name: Option<ObjectRef>,
    /// Its generation; none for a default.
    pub generation: Option<i64>,
}

/// What holds for requests that meet a rule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RuleSettingsView {
    /// The HTTPRoute.
    pub route: ObjectRef,
    /// Its generation.
    pub generation: i64,
    /// Which of its rules, from 0.
    pub rule: usize,
    /// The rule's name.
    pub rule_name: Option<String>,
    /// As [`RuleView::clients`].
    pub clients: Option<String>,
    /// Timeouts and retries.
    pub settings: Vec<SettingView>,
}

/// What became of a TrafficPolicy at one target.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PolicyStatusView {
    /// The TrafficPolicy.
    pub policy: ObjectRef,
    /// The generation that was looked at.
    pub generation: i64,
    /// As `kubectl` shows them where there is an API server.
    pub conditions: Vec<ConditionView>,
}

/// Nothing is known of the Service that was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoSuchService {
    /// Which.
    pub service: ObjectRef,
    /// The Services that there are.
    pub known: BTreeSet<ObjectRef>,
}

impl NoSuchService {
    /// For a Service that is not among the known ones.
    pub fn new(service: &ObjectRef, content: &Content) -> Self {
        Self {
            service: service.clone(),
            known: services(content),
        }
    }
}

impl fmt::Display for NoSuchService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { service, known } = self;
        write!(f, "there is no Service {service} that this node knows; ")?;
        if known.is_empty() {
            return write!(f, "it knows none");
        }
        let (own, others): (Vec<_>, Vec<_>) = known.iter().partition(|name| name.namespace == service.namespace);
        let named = own.iter().chain(&others).take(NAMED_MAX).map(ToString::to_string);
        let mut named: Vec<String> = named.collect();
        let more = known.len().saturating_sub(NAMED_MAX);
        if more > 0 {
            named.push(format!("and {more} more"));
        }
        write!(f, "it knows {}", named.join(", "))
    }
}

impl std::error::Error for NoSuchService {}

/// The Services that connections can be addressed to, or requests be sent to.
pub fn services(content: &Content) -> BTreeSet<ObjectRef> {
    let upstreams = content.upstreams.values().chain(content.backends.values());
    upstreams.map(|upstream| upstream.service.clone()).collect()
}

fn conditions(conditions: &[Condition]) -> Vec<ConditionView> {
    let view = |condition: &Condition| {
        let Condition {
            kind,
            is_true,
            reason,
            message,
        } = condition;
        ConditionView {
            kind: (*kind).to_owned(),
            status: if *is_true { "True" } else { "False" }.to_owned(),
            reason: (*reason).to_owned(),
            message: message.clone(),
        }
    };
    conditions.iter().map(view).collect()
}

/// A port of a Service as clients of a namespace (none: all) see it; what is routed alike at several addresses is told once.
type PortAndClients<'a> = (&'a ObjectRef, u16, Option<&'a str>);

/// The tables of all ports, or those of one Service, each with the addresses that have it.
fn tables<'a>(
    content: &'a Content,
    service: Option<&ObjectRef>,
) -> BTreeMap<PortAndClients<'a>, Vec<(&'a super::RouteTable, Vec<IpAddr>)>> {
    let mut found: BTreeMap<_, Vec<(&super::RouteTable, Vec<IpAddr>)>> = BTreeMap::new();
    for (address, routes) in &content.routes {
        let Some(upstream) = content.upstreams.get(address) else {
            continue;
        };
        if service.is_some_and(|service| *service != upstream.service) {
            continue;
        }
        for (clients, table) in routes.groups() {
            let tables = found.entry((&upstream.service, upstream.port, clients)).or_default();
            match tables.iter_mut().find(|(known, _)| *known == &**table) {
                Some((_, addresses)) => addresses.push(address.ip()),
                None => tables.push((table, vec![address.ip()])),
            }
        }
    }
    found
}
