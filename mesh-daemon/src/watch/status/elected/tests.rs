//! Who is elected and what it writes when, tried: tables, a clock turned by hand, and an API server of our own.

mod candidate;
mod world;
mod entries;
mod backlog;
mod server;
mod daemon;
mod running;
mod election;

use serde_json::{Value, json};

use super::entries::{Key, Subject};
use crate::{
    ids::ObjectRef,
    model::{Condition, Content, PolicyVerdict, RouteParent, RouteVerdict},
    watch::claims::CONTROLLER_NAME,
};

fn route(name: &str) -> Key {
    (Subject::Route, ObjectRef::new("shop", name))
}

fn parent(name: &str) -> RouteParent {
    RouteParent {
        group: Some(String::new()),
        kind: Some("Service".to_owned()),
        namespace: None,
        name: name.to_owned(),
        section_name: None,
        port: None,
    }
}

fn accepted(is_true: bool, message: &str) -> Condition {
    Condition {
        kind: "Accepted",
        is_true,
        reason: if is_true { "Accepted" } else { "UnsupportedValue" },
        message: message.to_owned(),
    }
}

/// A verdict that is the same for all of these parents.
fn verdict(generation: i64, parents: &[&str], condition: &Condition) -> RouteVerdict {
    RouteVerdict {
        generation,
        parents: parents
            .iter()
            .map(|name| (parent(name), vec![condition.clone()]))
            .collect(),
    }
}

/// Routes of the namespace `shop`.
fn content(verdicts: impl IntoIterator<Item = (&'static str, RouteVerdict)>) -> Content {
    let verdicts = verdicts
        .into_iter()
        .map(|(name, verdict)| (ObjectRef::new("shop", name), verdict));
    Content {
        route_verdicts: verdicts.collect(),
        ..Content::default()
    }
}

/// A policy of the namespace `shop`, and what became of it.
fn policy_content(name: &str, generation: i64, targets: &[&str], condition: &Condition) -> Content {
    let ancestors = targets
        .iter()
        .map(|target| (ObjectRef::new("shop", *target), vec![condition.clone()]));
    let verdict = PolicyVerdict {
        generation,
        ancestors: ancestors.collect(),
    };
    Content {
        policy_verdicts: [(ObjectRef::new("shop", name), verdict)].into(),
        ..Content::default()
    }
}

/// An entry of a route as the API has it.
fn entry(controller: &str, parent: &str, generation: i64, status: &str, message: &str, since: &str) -> Value {
    let reason = if status == "True" {
        "Accepted"
    } else {
        "UnsupportedValue"
    };
    json!({
        "parentRef": {"group": "", "kind": "Service", "name": parent},
        "controllerName": controller,
        "conditions": [{
            "type": "Accepted", "status": status, "reason": reason, "message": message, "observedGeneration": generation,
            "lastTransitionTime": since,
        }],
    })
}

fn own(parent: &str, generation: i64, status: &str, message: &str, since: &str) -> Value {
    entry(CONTROLLER_NAME, parent, generation, status, message, since)
}
