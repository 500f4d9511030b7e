//! [`build`]: everything that the daemon knows of the world, from everything that it was told. Pure: the same inputs give the same content.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use mesh_common::{
    addr::Addr,
    capture::{NODE_ADDRS_MAX, POD_RANGES_MAX},
};

use super::{
    Content, Pod, Tables, View, Workload,
    bounded::bounded,
    interfaces::{self, Locals},
    owners::{self, Owners, owned},
    policies::Policies,
    ranges, routing,
    upstreams::{self, Endpoints},
    verdict,
};
use crate::ids::ObjectRef;

/// Builds the content of a snapshot, from [`super::Inputs`] or a [`View`] of what they would be.
pub fn build<'a>(inputs: impl Into<View<'a>>) -> Content {
    of(&inputs.into(), None)
}

/// The same content as [`build`], sharing with an earlier one what did not change: one changed endpoint among ten thousand copies no names.
pub fn build_after<'a>(earlier: &Content, inputs: impl Into<View<'a>>) -> Content {
    of(&inputs.into(), Some(earlier))
}

fn of(inputs: &View<'_>, earlier: Option<&Content>) -> Content {
    let mut set_aside = inputs.refused.clone();
    let owners = owners::of_addresses(inputs, &mut set_aside);
    let locals = interfaces::locals(inputs, &owners, &mut set_aside);
    let workloads = workloads(inputs, &owners, &locals, earlier);
    let pod_ranges = ranges::pod_ranges(inputs, &mut set_aside);
    let policies = Policies::of(inputs, earlier);
    let endpoints = Endpoints::of(inputs, &workloads, &policies);
    let mut upstreams = upstreams::all(inputs, &endpoints, &mut set_aside);
    if let Some(earlier) = earlier {
        share(&mut upstreams, &earlier.upstreams);
    }
    let world = routing::World {
        inputs,
        endpoints: &endpoints,
        upstreams: &upstreams,
        earlier,
    };
    let routed = routing::all(&world, &mut set_aside);
    set_aside.extend(verdict::set_aside(&routed.verdicts));
    let tables = Tables {
        services: upstreams::steered(&upstreams, &routed.routes, &mut set_aside),
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
        routes: routed.routes,
        backends: routed.backends,
        route_verdicts: routed.verdicts,
        policy_verdicts: policies.verdicts(inputs),
        patterns: routed.patterns,
        pod_ranges,
        node_addresses: inputs.facts.node_addresses.clone(),
        captures: locals.captures,
        set_aside,
        tables,
    }
}

fn workloads(
    inputs: &View<'_>,
    owners: &Owners<'_>,
    locals: &Locals,
    earlier: Option<&Content>,
) -> BTreeMap<IpAddr, Arc<Workload>> {
    let mut by_address = Vec::with_capacity(owners.len());
    for (pod_ref, pod) in inputs.pods {
        let mut addresses = owned((pod_ref, pod), owners).peekable();
        let Some(first) = addresses.peek() else { continue };
        let interface = locals.interfaces.get(pod_ref).copied();
        let known = earlier.and_then(|earlier| earlier.workloads.get(first));
        let workload = match known.filter(|known| is_same(known, pod_ref, pod, interface)) {
            Some(known) => Arc::clone(known),
            None => Arc::new(Workload {
                pod: pod_ref.clone(),
                uid: pod.uid.clone(),
                name: pod.workload.clone(),
                node: pod.node.clone(),
                weight: pod.weight,
                interface,
            }),
        };
        by_address.extend(addresses.map(|address| (*address, Arc::clone(&workload))));
    }
    by_address.into_iter().collect()
}

fn is_same(known: &Workload, pod_ref: &ObjectRef, of: &Pod, is_at: Option<u32>) -> bool {
    let Workload {
        pod,
        uid,
        name,
        node,
        weight,
        interface,
    } = known;
    pod == pod_ref
        && *uid == of.uid
        && *name == of.workload
        && *node == of.node
        && *weight == of.weight
        && *interface == is_at
}

/// Takes what is equal from the earlier one, so that only what changed is kept twice while both live.
fn share<K: Ord, V: PartialEq>(now: &mut BTreeMap<K, Arc<V>>, earlier: &BTreeMap<K, Arc<V>>) {
    for (key, value) in now {
        if let Some(known) = earlier.get(key).filter(|known| *known == value) {
            *value = Arc::clone(known);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_equal_is_shared_and_what_is_not_is_kept() {
        let earlier: BTreeMap<u8, Arc<u8>> = [(1, Arc::new(10)), (2, Arc::new(20))].into();
        let mut now: BTreeMap<u8, Arc<u8>> = [(1, Arc::new(10)), (2, Arc::new(21)), (3, Arc::new(30))].into();
        let expected = now.clone();
        share(&mut now, &earlier);
        assert_eq!(now, expected);
        assert!(Arc::ptr_eq(&now[&1], &earlier[&1]));
        assert!(Arc::ptr_eq(&now[&2], &expected[&2]) && Arc::ptr_eq(&now[&3], &expected[&3]));
    }
}
