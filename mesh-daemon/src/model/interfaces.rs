//! This node's pods and interfaces: which interface leads to which pod, whether it is captured, and where programs stand. Known from routes
//! and neighbour entries alone, whatever the CNI.

use std::collections::{BTreeMap, BTreeSet};

use mesh_common::{
    addr::Addr,
    capture::{IFACE_CAPTURED, IFACES_MAX, Iface},
};

use super::{
    Attachment, Capture, Facts, LinkKind, NotCaptured, Pod, PodPhase, Program, SetAside, View,
    bounded::bounded,
    owners::{Owners, owned},
};
use crate::ids::ObjectRef;

/// Weft's own namespace: the daemon and what belongs to it are never captured.
const OWN_NAMESPACE: &str = "weft-system";

/// What is known of this node's pods.
#[derive(Debug, Default)]
pub(super) struct Locals {
    /// Each pod of this node: captured, or why not.
    pub(super) captures: BTreeMap<ObjectRef, Capture>,
    /// The interface of each pod that has one of its own here.
    pub(super) interfaces: BTreeMap<ObjectRef, u32>,
    /// The kernel's interface table.
    pub(super) ifaces: BTreeMap<u32, Iface>,
}

/// Finds this node's pods and their interfaces.
pub(super) fn locals(inputs: &View<'_>, owners: &Owners<'_>, set_aside: &mut BTreeSet<SetAside>) -> Locals {
    let here: Vec<_> = inputs
        .pods
        .iter()
        .filter(|(_, pod)| pod.node.as_ref() == Some(inputs.node))
        .collect();
    let mut found: BTreeMap<&ObjectRef, Result<u32, NotCaptured>> = here
        .iter()
        .map(|(name, pod)| (*name, interface(inputs.facts, name, pod, owners, set_aside)))
        .collect();
    refuse_shared(&mut found);
    let indexes = bounded(
        "pod interfaces",
        IFACES_MAX,
        found.values().filter_map(|index| index.ok()),
        set_aside,
    );
    let mut locals = Locals::default();
    for (name, pod) in here {
        let labelled = is_labelled(inputs, name, pod, set_aside);
        let own = found.get(name).copied().unwrap_or(Err(NotCaptured::NoInterface));
        let own = own.and_then(|index| {
            if indexes.contains(&index) {
                Ok(index)
            } else {
                Err(NotCaptured::NoInterface)
            }
        });
        let capture = capture(pod, labelled, own);
        if let Ok(index) = own {
            let flags = if matches!(capture, Capture::Captured(_)) {
                IFACE_CAPTURED
            } else {
                0
            };
            locals.interfaces.insert(name.clone(), index);
            locals.ifaces.insert(index, iface(flags, name, pod, owners));
        }
        locals.captures.insert(name.clone(), capture);
    }
    locals
}

/// Where programs stand: on pods' interfaces the one that captures, on every other but `lo` the one that finds answers. The port of a bridge
/// has none: its frames meet the bridge's own.
pub(super) fn attachments(facts: &Facts, ifaces: &BTreeMap<u32, Iface>) -> BTreeMap<u32, Attachment> {
    let program = |index: &u32, kind, master| match kind {
        LinkKind::Loopback => None,
        _ if ifaces.contains_key(index) => Some(Program::FromPod),
        _ if is_bridge(facts, master) => None,
        LinkKind::NoLinkLayer => Some(Program::FromNetL3),
        LinkKind::Ethernet | LinkKind::Bridge => Some(Program::FromNet),
    };
    facts
        .links
        .iter()
        .filter_map(|(index, link)| {
            let program = program(index, link.kind, link.master)?;
            Some((
                *index,
                Attachment {
                    interface: link.name.clone(),
                    program,
                },
            ))
        })
        .collect()
}

/// What the labels ask for: the pod's own wins over its namespace's.
fn is_labelled(inputs: &View<'_>, name: &ObjectRef, pod: &Pod, set_aside: &mut BTreeSet<SetAside>) -> bool {
    let mut asks = |kind: &str, object: String, label: Option<&str>| match label {
        Some("enabled") => Some(true),
        Some("disabled") => Some(false),
        None => None,
        Some(other) => {
            let detail = format!(
                "label weft.mesh/capture is `{}`, which counts as no label: use enabled or disabled",
                other.escape_default()
            );
            set_aside.insert(SetAside {
                kind: kind.to_owned(),
                name: object,
                reason: "invalid_capture_label",
                detail,
            });
            None
        }
    };
    let namespace = inputs
        .namespaces
        .get(&name.namespace)
        .and_then(|namespace| namespace.capture_label.as_deref());
    let of_namespace = asks("Namespace", name.namespace.clone(), namespace);
    let of_pod = asks("Pod", name.to_string(), pod.capture_label.as_deref());
    name.namespace != OWN_NAMESPACE && of_pod.or(of_namespace).unwrap_or(false)
}

fn capture(pod: &Pod, labelled: bool, own: Result<u32, NotCaptured>) -> Capture {
    if pod.phase == PodPhase::Finished {
        Capture::Not(NotCaptured::Finished)
    } else if !labelled {
        Capture::Not(NotCaptured::NotLabelled)
    } else if pod.host_network {
        Capture::Not(NotCaptured::HostNetwork)
    } else {
        own.map_or_else(Capture::Not, Capture::Captured)
    }
}

/// The one interface that leads to all of the pod's addresses.
fn interface(
    facts: &Facts,
    name: &ObjectRef,
    pod: &Pod,
    owners: &Owners<'_>,
    set_aside: &mut BTreeSet<SetAside>,
) -> Result<u32, NotCaptured> {
    let addresses: Vec<_> = owned((name, pod), owners).collect();
    if addresses.is_empty() {
        return Err(NotCaptured::NoAddress);
    }
    let indexes: BTreeSet<u32> = addresses
        .iter()
        .filter_map(|address| facts.on_link.get(address).copied())
        .collect();
    if indexes.len() > 1 {
        set_aside.insert(SetAside {
            kind: "Pod".to_owned(),
            name: name.to_string(),
            reason: "several_interfaces",
            detail: "its addresses are reached through different interfaces, so it is not captured".to_owned(),
        });
        return Err(NotCaptured::NoInterface);
    }
    let index = indexes.first().copied().ok_or(NotCaptured::NoInterface)?;
    match facts.links.get(&index) {
        Some(link) if link.kind == LinkKind::Bridge || is_bridge(facts, link.master) => Err(NotCaptured::BridgePort),
        Some(link) if link.kind == LinkKind::Ethernet => Ok(index),
        _ => Err(NotCaptured::NoInterface),
    }
}

/// Two pods behind one interface: who sent a packet could not be told.
fn refuse_shared(found: &mut BTreeMap<&ObjectRef, Result<u32, NotCaptured>>) {
    let mut users: BTreeMap<u32, usize> = BTreeMap::new();
    for index in found.values().flatten() {
        *users.entry(*index).or_default() += 1;
    }
    for own in found.values_mut() {
        if own.is_ok_and(|index| users.get(&index).is_some_and(|users| *users > 1)) {
            *own = Err(NotCaptured::SharedInterface);
        }
    }
}

fn iface(flags: u32, name: &ObjectRef, pod: &Pod, owners: &Owners<'_>) -> Iface {
    let first = |v4: bool| {
        owned((name, pod), owners)
            .find(|address| address.is_ipv4() == v4)
            .map_or(Addr::NONE, |address| Addr::from(*address))
    };
    Iface {
        flags,
        addr4: first(true),
        addr6: first(false),
    }
}

fn is_bridge(facts: &Facts, index: Option<u32>) -> bool {
    index
        .and_then(|index| facts.links.get(&index))
        .is_some_and(|link| link.kind == LinkKind::Bridge)
}
