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
    owners::{self, Owners, owned},
    ranges, upstreams,
};

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

fn workloads(inputs: &View<'_>, owners: &Owners<'_>, locals: &Locals) -> BTreeMap<IpAddr, Arc<Workload>> {
    let mut by_address = Vec::with_capacity(owners.len());
    for (pod_ref, pod) in inputs.pods {
        let mut addresses = owned((pod_ref, pod), owners).peekable();
        if addresses.peek().is_none() {
            continue;
        }
        let workload = Arc::new(Workload {
            pod: pod_ref.clone(),
            uid: pod.uid.clone(),
            name: pod.workload.clone(),
            node: pod.node.clone(),
            interface: locals.interfaces.get(pod_ref).copied(),
        });
        by_address.extend(addresses.map(|address| (*address, Arc::clone(&workload))));
    }
    by_address.into_iter().collect()
}
