//! What the API should say, as a pure function of what is applied and of this node's pods: conditions, and Events that are due some time.

use std::{
    collections::{BTreeMap, HashMap},
    fmt::Write as _,
};

use sha2::{Digest, Sha256};

use super::{
    super::{
        convert::checked_name,
        local::{Condition, LocalPod, LocalPods},
    },
    tellers::Tellers,
    verdict::{Tell, Verdict, verdict},
};
use crate::{
    ids::{NodeName, ObjectRef},
    model::{Ack, Capture, Content, NotCaptured, SetAside},
};

/// Longest note of an Event and message of a condition, in bytes: what the API server takes for Events.
pub(super) const NOTE_BYTES_MAX: usize = 1024;
/// Longest part of an Event's name that is the object's own, in bytes: with the hash it stays below the 253 that Kubernetes takes.
const NAME_BYTES_MAX: usize = 200;
/// Bytes of the hash in an Event's name: two different Events of one object never meet.
const HASH_BYTES: usize = 8;
/// Most objects set aside that Events tell about at a time, the first by kind and name so that all nodes choose the same: more are a
/// broken generator, which log, metrics and the admin socket tell; Events would fill the API server's store.
pub(super) const SET_ASIDE_TOLD_MAX: usize = 200;
/// Namespace of Events about objects that have none, as the API server asks for.
const CLUSTER_SCOPED_NAMESPACE: &str = "default";

/// What the API should say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Desired {
    /// Conditions of this node's pods, also those that the API has already.
    pub(super) conditions: BTreeMap<ObjectRef, Wanted>,
    /// Events, by namespace and name of the Event.
    pub(super) notices: BTreeMap<ObjectRef, Notice>,
}

/// A pod's condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    /// The pod's UID.
    pub(super) uid: String,
    /// As it should be.
    pub(super) condition: Condition,
    /// As the API has it.
    pub(super) shown: Option<Condition>,
}

/// An Event that is to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Notice {
    /// The object that it is about.
    pub(super) regarding: Regarding,
    /// `Warning` instead of `Normal`.
    pub(super) is_warning: bool,
    /// One word in camel case.
    pub(super) reason: &'static str,
    /// What was tried: one word in camel case.
    pub(super) action: &'static str,
    /// What happened, at most [`NOTE_BYTES_MAX`] bytes.
    pub(super) note: String,
    /// When it is written.
    pub(super) wait: Wait,
    /// The pod whose condition says the same: what the API's condition says already is no news.
    pub(super) condition_of: Option<ObjectRef>,
}

/// What an Event is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Regarding {
    pub(super) kind: String,
    pub(super) api_version: &'static str,
    /// None for kinds without one.
    pub(super) namespace: Option<String>,
    pub(super) name: String,
    /// If it is known.
    pub(super) uid: Option<String>,
}

/// How long an Event waits, counted from when it was first wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wait {
    /// Not at all.
    None,
    /// Until it has lasted.
    Lasting,
    /// Until it has lasted, and some more, since other nodes are about to write the same.
    Spread,
}

/// What the daemon of this node should see to that the API says now. Nothing before anything is applied.
pub(super) fn desired(node: &NodeName, ack: Option<&Ack>, local: &LocalPods) -> Desired {
    let Some(ack) = ack else {
        return Desired::default();
    };
    let mut desired = Desired::default();
    let owners = owners(&ack.snapshot.content);
    for (name, pod) in local {
        let Some(capture) = ack.snapshot.content.captures.get(name).copied() else {
            continue;
        };
        // what is applied speaks of an earlier pod of this name: the next snapshot speaks of this one
        if matches!(capture, Capture::Captured(_)) && owners.get(name).is_none_or(|uid| *uid != pod.uid) {
            continue;
        }
        let is_asked = capture != Capture::Not(NotCaptured::NotLabelled);
        if !is_asked && !pod.is_gated && pod.captured.is_none() {
            continue;
        }
        let Some(verdict) = verdict(capture, ack) else {
            continue;
        };
        desired
            .notices
            .extend(notice_of(name, pod, &verdict).map(|notice| (event_name(&notice, &pod.uid), notice)));
        desired.conditions.insert(name.clone(), wanted(pod, &verdict));
    }
    desired
        .notices
        .extend(notices_aside(node, &ack.snapshot.content, local));
    desired
}

/// Events about what is set aside, as far as they are this node's to tell: of its own pods, and of some of the objects that every node sees.
fn notices_aside(node: &NodeName, content: &Content, local: &LocalPods) -> Vec<(ObjectRef, Notice)> {
    if content.set_aside.is_empty() {
        return Vec::new();
    }
    let nodes = content.workloads.values().filter_map(|workload| workload.node.as_ref());
    let tellers = Tellers::new(nodes);
    let notices = content.set_aside.iter().filter_map(|item| notice_aside(item, local));
    notices
        .take(SET_ASIDE_TOLD_MAX)
        .map(|notice| (event_name(&notice, ""), notice))
        .filter(|(name, notice)| notice.wait != Wait::Spread || tellers.has_to_tell(node, name))
        .collect()
}

/// The UIDs of the pods behind this node's interfaces.
fn owners(content: &Content) -> HashMap<&ObjectRef, &str> {
    let here = content
        .workloads
        .values()
        .filter(|workload| workload.interface.is_some());
    here.map(|workload| (&workload.pod, workload.uid.as_str())).collect()
}

fn wanted(pod: &LocalPod, verdict: &Verdict) -> Wanted {
    let status = if verdict.is_captured { "True" } else { "False" };
    Wanted {
        uid: pod.uid.clone(),
        condition: Condition {
            status: status.to_owned(),
            reason: verdict.reason.to_owned(),
            message: bounded(&verdict.message).to_owned(),
        },
        shown: pod.captured.clone(),
    }
}

fn notice_of(name: &ObjectRef, pod: &LocalPod, verdict: &Verdict) -> Option<Notice> {
    let wait = match verdict.tell {
        Tell::Never => return None,
        Tell::Now => Wait::None,
        Tell::IfItLasts => Wait::Lasting,
    };
    Some(Notice {
        regarding: Regarding {
            kind: "Pod".to_owned(),
            api_version: "v1",
            namespace: Some(name.namespace.clone()),
            name: name.name.clone(),
            uid: Some(pod.uid.clone()),
        },
        is_warning: !verdict.is_captured,
        reason: if verdict.is_captured {
            "Captured"
        } else {
            "CaptureFailed"
        },
        action: "Capture",
        note: bounded(&verdict.message).to_owned(),
        wait,
        condition_of: Some(name.clone()),
    })
}

/// Files, settings and maps are no objects of the API, so no Event can be about them.
fn notice_aside(item: &SetAside, local: &LocalPods) -> Option<Notice> {
    let (api_version, is_namespaced) = match item.kind.as_str() {
        "Pod" | "Service" => ("v1", true),
        "EndpointSlice" => ("discovery.k8s.io/v1", true),
        "HTTPRoute" => ("gateway.networking.k8s.io/v1", true),
        "TrafficPolicy" => ("weft.mesh/v1alpha1", true),
        "Namespace" | "Node" => ("v1", false),
        _ => return None,
    };
    let (namespace, name) = match item.name.split_once('/') {
        Some((namespace, name)) if is_namespaced => (Some(namespace), name),
        None if !is_namespaced => (None, item.name.as_str()),
        _ => return None,
    };
    // they become parts of a path
    for part in namespace.into_iter().chain([name]) {
        checked_name(part, "name").ok()?;
    }
    let own = namespace
        .filter(|_| item.kind == "Pod")
        .and_then(|namespace| local.get(&ObjectRef::new(namespace, name)));
    Some(Notice {
        regarding: Regarding {
            kind: item.kind.clone(),
            api_version,
            namespace: namespace.map(str::to_owned),
            name: name.to_owned(),
            uid: own.map(|pod| pod.uid.clone()),
        },
        is_warning: true,
        reason: "SetAside",
        action: "Read",
        note: bounded(&format!("{}: {}", item.reason, item.detail)).to_owned(),
        wait: if own.is_some() { Wait::Lasting } else { Wait::Spread },
        condition_of: None,
    })
}

/// The same on every node, so that the second that writes it hears that it exists.
fn event_name(notice: &Notice, uid: &str) -> ObjectRef {
    let regarding = &notice.regarding;
    let namespace = regarding.namespace.as_deref().unwrap_or(CLUSTER_SCOPED_NAMESPACE);
    let mut hash = Sha256::new();
    for part in [
        &regarding.kind,
        namespace,
        &regarding.name,
        uid,
        notice.reason,
        &notice.note,
    ] {
        hash.update(part);
        // no byte of UTF-8: parts cannot run into each other
        hash.update([0xff]);
    }
    let mut name = cut(&regarding.name, NAME_BYTES_MAX)
        .trim_end_matches(['.', '-'])
        .to_owned();
    name.push('.');
    for byte in hash.finalize().iter().take(HASH_BYTES) {
        let _ = write!(name, "{byte:02x}");
    }
    ObjectRef::new(namespace, name)
}

/// At most [`NOTE_BYTES_MAX`] bytes of a text.
pub(super) fn bounded(text: &str) -> &str {
    cut(text, NOTE_BYTES_MAX)
}

/// At most so many bytes, and whole characters.
fn cut(text: &str, bytes_max: usize) -> &str {
    text.get(..text.floor_char_boundary(bytes_max)).unwrap_or_default()
}
