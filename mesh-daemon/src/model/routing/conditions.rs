//! What became of a route at one of its parents, in the standard's words (Gateway API, RouteConditionType and RouteConditionReason).

use super::{
    super::{
        Condition,
        http_route::{HttpRoute, RouteParent, RuleFault, RuleFaultReason},
        plain::plain,
    },
    attach::NoParent,
    backends::Unresolved,
    compile::Compiled,
};
use crate::ids::ObjectRef;

/// Most faults that one message tells: a person mends one after the other, and the API bounds a message at 32 KiB.
const FAULTS_TOLD_MAX: usize = 4;

/// Accepted and ResolvedRefs always; PartiallyInvalid only where it is true, as the standard demands. `refused` says why the parent can be none.
pub(super) fn conditions(
    name: &ObjectRef,
    route: &HttpRoute,
    compiled: &Compiled,
    parent: &RouteParent,
    refused: Option<&NoParent>,
) -> Vec<Condition> {
    let accepted = match refused {
        Some(refused) => no_parent(refused),
        None if !compiled.attaches() => no_rule(compiled),
        None => attached(name, parent),
    };
    let is_accepted = accepted.is_true;
    let mut conditions = vec![accepted, resolved(&compiled.unresolved)];
    if is_accepted {
        conditions.extend(partially_invalid(route, compiled));
    }
    conditions
}

fn attached(name: &ObjectRef, parent: &RouteParent) -> Condition {
    let service = parent.service(name);
    let whose = if service.namespace == name.namespace {
        "all clients".to_owned()
    } else {
        format!("the clients of namespace {}", name.namespace)
    };
    condition(
        "Accepted",
        true,
        "Accepted",
        &format!("Holds for {whose} of Service {service}"),
    )
}

/// The standard has no reason of its own for a parent that is missing, or cannot be one.
fn no_parent((field, sentence): &NoParent) -> Condition {
    let message = format!("spec.parentRefs[].{field}: {sentence}");
    condition("Accepted", false, "NoMatchingParent", &message)
}

fn no_rule(compiled: &Compiled) -> Condition {
    let faults: Vec<_> = compiled.rules.iter().flat_map(|rule| &rule.faults).collect();
    let filters_only = faults
        .iter()
        .all(|fault| fault.reason == RuleFaultReason::IncompatibleFilters);
    let reason = if filters_only {
        "IncompatibleFilters"
    } else {
        "UnsupportedValue"
    };
    let message = format!("No rule can be applied: {}", list(faults.into_iter().map(told)));
    condition("Accepted", false, reason, &message)
}

fn resolved(unresolved: &[Unresolved]) -> Condition {
    match unresolved.first() {
        None => condition("ResolvedRefs", true, "ResolvedRefs", "All backends are known"),
        Some(first) => {
            let message = list(unresolved.iter().map(|backend| backend.message.clone()));
            condition("ResolvedRefs", false, first.reason, &message)
        }
    }
}

/// Its message must begin with `Dropped Rule`; ours are not quite dropped, and it says so.
fn partially_invalid(route: &HttpRoute, compiled: &Compiled) -> Option<Condition> {
    let rules = (0..).zip(route.rules.iter().zip(&compiled.rules));
    let dropped: Vec<_> = rules.filter(|(_, (_, rule))| !rule.faults.is_empty()).collect();
    if dropped.is_empty() {
        return None;
    }
    let which = list(dropped.iter().map(|(index, (rule, _))| match &rule.name {
        Some(name) => format!("{index} (`{name}`)"),
        None => index.to_string(),
    }));
    let why = list(dropped.iter().flat_map(|(_, (_, rule))| &rule.faults).map(told));
    let message = format!("Dropped Rule {which}, whose requests are answered with 500: {why}");
    Some(condition("PartiallyInvalid", true, "UnsupportedValue", &message))
}

fn told(fault: &RuleFault) -> String {
    format!("{}: {}", fault.field, fault.detail)
}

fn list(items: impl Iterator<Item = String>) -> String {
    let mut items: Vec<_> = items.collect();
    let more = items.len().saturating_sub(FAULTS_TOLD_MAX);
    if more > 0 {
        items.truncate(FAULTS_TOLD_MAX);
        items.push(format!("and {more} more"));
    }
    items.join("; ")
}

fn condition(kind: &'static str, is_true: bool, reason: &'static str, message: &str) -> Condition {
    Condition {
        kind,
        is_true,
        reason,
        message: plain(message),
    }
}
