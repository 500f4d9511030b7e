//! What the statuses of routes and policies should say in our name, as pure functions of what is published and of what the API has.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::super::{
    super::{
        claims::{CONTROLLER_NAME, Claim, Claims},
        objects::Kind,
    },
    desired::bounded,
    write::Object,
};
use crate::{
    ids::ObjectRef,
    model::{Condition, Content, PolicyVerdict, RouteParent, RouteVerdict},
};

/// The kinds whose statuses one daemon writes for all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Subject {
    /// HTTPRoute: `status.parents`.
    Route,
    /// TrafficPolicy: `status.ancestors` (GEP-713).
    Policy,
}

/// One object.
pub(super) type Key = (Subject, ObjectRef);

/// Objects whose status in the API is not what it should be.
pub(super) type Due = BTreeMap<Key, Wanted>;

/// What a status should say.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Wanted {
    /// The UID of the object that is meant.
    pub(super) uid: String,
    /// `metadata.generation` of the object that the entries are about: if it is another one by now, they are not written.
    pub(super) generation: i64,
    /// Our entries, all of them; none if nothing in the object is ours any more.
    pub(super) entries: Vec<Entry>,
    /// Our entries as the API has them.
    pub(super) shown: Vec<Value>,
}

/// An entry of ours.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Entry {
    /// The `parentRef` or `ancestorRef`.
    about: Value,
    conditions: Vec<Condition>,
}

impl Subject {
    fn of(kind: Kind) -> Option<Self> {
        match kind {
            Kind::HttpRoute => Some(Self::Route),
            Kind::TrafficPolicy => Some(Self::Policy),
            Kind::Namespace | Kind::Node | Kind::Pod | Kind::Service | Kind::EndpointSlice => None,
        }
    }

    /// As metrics and the log tell it.
    pub(super) fn object(self) -> Object {
        match self {
            Self::Route => Object::Route,
            Self::Policy => Object::Policy,
        }
    }

    /// The group that its rights are given for.
    pub(super) fn group(self) -> &'static str {
        match self {
            Self::Route => "gateway.networking.k8s.io",
            Self::Policy => "weft.mesh",
        }
    }

    /// The version that is read and written.
    pub(super) fn version(self) -> &'static str {
        match self {
            Self::Route => "v1",
            Self::Policy => "v1alpha1",
        }
    }

    /// As paths have it.
    pub(super) fn plural(self) -> &'static str {
        match self {
            Self::Route => "httproutes",
            Self::Policy => "trafficpolicies",
        }
    }

    /// The field of the status that holds the entries.
    pub(super) fn list(self) -> &'static str {
        match self {
            Self::Route => "parents",
            Self::Policy => "ancestors",
        }
    }

    /// The field of an entry that says what it is about.
    fn about(self) -> &'static str {
        match self {
            Self::Route => "parentRef",
            Self::Policy => "ancestorRef",
        }
    }

    /// Most entries of all controllers together that the API takes.
    pub(super) fn entries_max(self) -> usize {
        match self {
            Self::Route => 32,
            Self::Policy => 16,
        }
    }
}

/// Every status that is to be written, or to lose our entries. An object is left alone as long as what is published is about another generation
/// of it than the API has.
pub(super) fn due(content: &Content, claims: &Claims) -> Due {
    let due = claims.iter().filter_map(|((kind, name), claim)| {
        let subject = Subject::of(*kind)?;
        let (generation, entries) = match subject {
            Subject::Route => of_route(content.route_verdicts.get(name), claim),
            Subject::Policy => of_policy(content.policy_verdicts.get(name), claim),
        }?;
        let wanted = Wanted {
            uid: claim.uid.clone(),
            generation,
            entries,
            shown: claim.entries.clone(),
        };
        Some(((subject, name.clone()), wanted))
    });
    due.collect()
}

/// Nothing if the API says it already, and nothing is made for finding that out: every route is compared whenever anything changes.
fn of_route(verdict: Option<&RouteVerdict>, claim: &Claim) -> Option<(i64, Vec<Entry>)> {
    let Some(RouteVerdict { generation, parents }) = verdict else {
        return gone(claim);
    };
    let shows = |shown: &Value, (parent, conditions): &(RouteParent, Vec<Condition>)| {
        shows_parent(&shown["parentRef"], parent) && shows_conditions(shown, conditions, *generation)
    };
    if *generation != claim.generation || all_shown(&claim.entries, parents, shows) {
        return None;
    }
    let entries = parents.iter().map(|(parent, conditions)| Entry {
        about: parent_ref(parent),
        conditions: conditions.clone(),
    });
    Some((*generation, distinct(entries)))
}

fn of_policy(verdict: Option<&PolicyVerdict>, claim: &Claim) -> Option<(i64, Vec<Entry>)> {
    let Some(PolicyVerdict { generation, ancestors }) = verdict else {
        return gone(claim);
    };
    let shows = |shown: &Value, (service, conditions): &(ObjectRef, Vec<Condition>)| {
        shows_service(&shown["ancestorRef"], service) && shows_conditions(shown, conditions, *generation)
    };
    if *generation != claim.generation || all_shown(&claim.entries, ancestors, shows) {
        return None;
    }
    let entries = ancestors.iter().map(|(service, conditions)| Entry {
        about: ancestor_ref(service),
        conditions: conditions.clone(),
    });
    Some((*generation, distinct(entries)))
}

/// Nothing of it is ours any more.
fn gone(claim: &Claim) -> Option<(i64, Vec<Entry>)> {
    (!claim.entries.is_empty()).then(|| (claim.generation, Vec::new()))
}

/// Whether each has its entry and no entry is too many, in whatever order.
fn all_shown<T>(shown: &[Value], wanted: &[T], shows: impl Fn(&Value, &T) -> bool) -> bool {
    shown.len() == wanted.len() && wanted.iter().all(|one| shown.iter().any(|entry| shows(entry, one)))
}

/// The API takes no two entries about the same from one controller.
fn distinct(entries: impl Iterator<Item = Entry>) -> Vec<Entry> {
    let mut distinct: Vec<Entry> = Vec::new();
    for entry in entries {
        if !distinct.iter().any(|other| other.about == entry.about) {
            distinct.push(entry);
        }
    }
    distinct
}

/// As the spec has it. Group and kind are always named: where they are absent the CRD would make a Gateway of it.
fn parent_ref(parent: &RouteParent) -> Value {
    let RouteParent {
        group,
        kind,
        namespace,
        name,
        section_name,
        port,
    } = parent;
    let mut about = json!({
        "group": group.as_deref().unwrap_or_default(),
        "kind": kind.as_deref().unwrap_or("Service"),
        "name": name,
    });
    let optional = [
        ("namespace", namespace.as_ref().map(|namespace| json!(namespace))),
        ("sectionName", section_name.as_ref().map(|section| json!(section))),
        ("port", port.map(|port| json!(port))),
    ];
    for (field, value) in optional {
        if let Some(value) = value {
            about[field] = value;
        }
    }
    about
}

fn shows_parent(shown: &Value, parent: &RouteParent) -> bool {
    let RouteParent {
        group,
        kind,
        namespace,
        name,
        section_name,
        port,
    } = parent;
    shows_text(shown, "group", Some(group.as_deref().unwrap_or_default()))
        && shows_text(shown, "kind", Some(kind.as_deref().unwrap_or("Service")))
        && shows_text(shown, "namespace", namespace.as_deref())
        && shows_text(shown, "name", Some(name))
        && shows_text(shown, "sectionName", section_name.as_deref())
        && shown.get("port").and_then(Value::as_u64) == port.map(u64::from)
}

fn ancestor_ref(service: &ObjectRef) -> Value {
    json!({"group": "", "kind": "Service", "namespace": service.namespace, "name": service.name})
}

fn shows_service(shown: &Value, service: &ObjectRef) -> bool {
    shows_text(shown, "group", Some(""))
        && shows_text(shown, "kind", Some("Service"))
        && shows_text(shown, "namespace", Some(&service.namespace))
        && shows_text(shown, "name", Some(&service.name))
}

fn shows_conditions(shown: &Value, wanted: &[Condition], generation: i64) -> bool {
    let shown = shown.get("conditions").and_then(Value::as_array);
    let shown = shown.map(Vec::as_slice).unwrap_or_default();
    all_shown(shown, wanted, |shown, condition| {
        shows_condition(shown, condition, generation)
    })
}

fn shows_condition(shown: &Value, wanted: &Condition, generation: i64) -> bool {
    shows_text(shown, "type", Some(wanted.kind))
        && shows_text(shown, "status", Some(status(wanted)))
        && shows_text(shown, "reason", Some(wanted.reason))
        && shows_text(shown, "message", Some(bounded(&wanted.message)))
        && shown.get("observedGeneration").and_then(Value::as_i64) == Some(generation)
}

fn shows_text(shown: &Value, field: &str, wanted: Option<&str>) -> bool {
    shown.get(field).and_then(Value::as_str) == wanted
}

fn status(condition: &Condition) -> &'static str {
    if condition.is_true { "True" } else { "False" }
}

/// The list of a status with our entries as they are wanted, and all others as they stand. None if it is so already. What is too many for the
/// API is left out, the last of ours first. `now` is the time of what changes its status.
pub(super) fn merged(subject: Subject, list: &[Value], wanted: &Wanted, now: &str) -> Option<Vec<Value>> {
    let mut missing: Vec<&Entry> = wanted.entries.iter().collect();
    let kept = list.iter().filter_map(|shown| {
        if shown.get("controllerName").and_then(Value::as_str) != Some(CONTROLLER_NAME) {
            return Some(shown.clone());
        }
        let index = missing
            .iter()
            .position(|entry| shown.get(subject.about()) == Some(&entry.about))?;
        Some(written(
            subject,
            Some(shown),
            missing.remove(index),
            wanted.generation,
            now,
        ))
    });
    let mut merged: Vec<Value> = kept.collect();
    for entry in missing {
        if merged.len() < subject.entries_max() {
            merged.push(written(subject, None, entry, wanted.generation, now));
        }
    }
    (merged != list).then_some(merged)
}

/// An entry of ours, in place of the one that stands there.
fn written(subject: Subject, shown: Option<&Value>, entry: &Entry, generation: i64, now: &str) -> Value {
    if let Some(shown) = shown
        && shows_conditions(shown, &entry.conditions, generation)
    {
        return shown.clone();
    }
    let shown = shown
        .and_then(|shown| shown.get("conditions"))
        .and_then(Value::as_array);
    let conditions = entry.conditions.iter().map(|condition| {
        let status = status(condition);
        let same = shown
            .into_iter()
            .flatten()
            .find(|shown| shows_text(shown, "type", Some(condition.kind)) && shows_text(shown, "status", Some(status)));
        let since = same
            .and_then(|same| same.get("lastTransitionTime"))
            .and_then(Value::as_str);
        json!({
            "type": condition.kind,
            "status": status,
            "reason": condition.reason,
            "message": bounded(&condition.message),
            "observedGeneration": generation,
            "lastTransitionTime": since.unwrap_or(now),
        })
    });
    let mut written = Map::new();
    written.insert(subject.about().to_owned(), entry.about.clone());
    written.insert("controllerName".to_owned(), json!(CONTROLLER_NAME));
    written.insert("conditions".to_owned(), conditions.collect());
    Value::Object(written)
}
