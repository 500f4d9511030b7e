//! What is written when, tried: tables, a clock turned by hand, and an API server of our own.

mod tables;
mod tellers;
mod ledger;
pub(super) mod api;
mod writer;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use crate::{
    ids::{Generation, NodeName, ObjectRef},
    model::{Ack, Capture, Content, SetAside, Snapshot, Workload},
    watch::local::{Condition, LocalPod, LocalPods},
};

/// Pods' interface in these tests.
const INTERFACE: u32 = 7;

/// The node of the writer.
fn node() -> NodeName {
    NodeName("n1".into())
}

fn object(name: &str) -> ObjectRef {
    let (namespace, name) = name.split_once('/').unwrap();
    ObjectRef::new(namespace, name)
}

/// Pods with what the model says of them; who is captured has the UID `uid-NAME`.
fn ack(captures: &[(&str, Capture)]) -> Ack {
    let mut content = Content::default();
    for (index, (name, capture)) in captures.iter().enumerate() {
        let pod = object(name);
        if let Capture::Captured(interface) = capture {
            let workload = Workload {
                weight: 1,
                uid: format!("uid-{}", pod.name),
                name: pod.name.clone(),
                node: Some(node()),
                interface: Some(*interface),
                pod: pod.clone(),
            };
            let address = [10, 0, 0, u8::try_from(index).unwrap()].into();
            content.workloads.insert(address, Arc::new(workload));
        }
        content.captures.insert(pod, *capture);
    }
    of_content(content)
}

fn of_content(content: Content) -> Ack {
    let snapshot = Snapshot {
        generation: Generation(1),
        content,
    };
    Ack {
        snapshot: Arc::new(snapshot),
        unattached: BTreeMap::new(),
        held_back: false,
    }
}

fn aside(items: &[(&str, &str)]) -> Ack {
    let set_aside: BTreeSet<_> = items
        .iter()
        .map(|(kind, name)| SetAside {
            kind: (*kind).to_owned(),
            name: (*name).to_owned(),
            reason: "invalid_port",
            detail: "port 0 is none".to_owned(),
        })
        .collect();
    of_content(Content {
        set_aside,
        ..Content::default()
    })
}

/// A pod as the API has it, without a gate or condition.
fn local(name: &str) -> LocalPod {
    let (_, name) = name.split_once('/').unwrap();
    LocalPod {
        uid: format!("uid-{name}"),
        is_gated: false,
        captured: None,
    }
}

fn locals(names: &[&str]) -> LocalPods {
    names.iter().map(|name| (object(name), local(name))).collect()
}

fn condition(status: &str, reason: &str) -> Condition {
    Condition {
        status: status.to_owned(),
        reason: reason.to_owned(),
        message: "said before".to_owned(),
    }
}
