//! [`build`]: everything that the daemon knows of the world, from everything that it was told. Pure: the same inputs give the same content.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use mesh_common::{
    addr::Addr,
    capture::{NODE_ADDRS_MAX, POD_RANGES_MAX},
};

use super::{
    Content, Tables, View, Workload,
    bounded::bounded,
    interfaces::{self, Locals},
    owners, ranges, upstreams,
};
use crate::ids::ObjectRef;

/// Builds the content of a snapshot, from [`super::Inputs`] or a [`View`] of what they would be.
pub fn build<'a>(inputs: impl Into<View<'a>>) -> Content {
    of(&inputs.into())
}

fn of(inputs: &View<'_>) -> Content {
    let mut set_aside = inputs.refused.clone();
    let owners = owners::of_addresses(inputs, &mut set_aside);
    let locals = interfaces::locals(inputs, &owners, &mut set_aside);
    let workloads = workloads(inputs, &owners, &locals);
    let pod_ranges = ranges::pod_ranges(inputs, &mut set_aside);
    let upstreams = upstreams::all(inputs, &workloads, &mut set_aside);
    let tables = Tables {
        services: upstreams::steered(&upstreams, &mut set_aside),
        pod_ranges: bounded(
            "pod ranges",
            POD_RANGES_MAX,
            pod_ranges.iter().map(ranges::entry),
            &mut set_aside,
        ),
        node_addrs: bounded(
            "node addresses",
            NODE_ADDRS_MAX,
            inputs.facts.node_addresses.iter().map(|ip| Addr::from(*ip)),
            &mut set_aside,
        ),
        attachments: interfaces::attachments(inputs.facts, &locals.ifaces),
        ifaces: locals.ifaces,
    };
    Content {
        workloads,
        upstreams,
        pod_ranges,
        node_addresses: inputs.facts.node_addresses.clone(),
        captures: locals.captures,
        set_aside,
        tables,
    }
}

fn workloads(
    inputs: &View<'_>,
    owners: &BTreeMap<IpAddr, ObjectRef>,
    locals: &Locals,
) -> BTreeMap<IpAddr, Arc<Workload>> {
    let mut by_pod: BTreeMap<&ObjectRef, Arc<Workload>> = BTreeMap::new();
    let mut by_address = BTreeMap::new();
    for (address, pod_ref) in owners {
        let Some(pod) = inputs.pods.get(pod_ref) else { continue };
        let workload = by_pod.entry(pod_ref).or_insert_with(|| {
            Arc::new(Workload {
                pod: pod_ref.clone(),
                uid: pod.uid.clone(),
                name: pod.workload.clone(),
                node: pod.node.clone(),
                interface: locals.interfaces.get(pod_ref).copied(),
            })
        });
        by_address.insert(*address, Arc::clone(workload));
    }
    by_address
}
