//! Who owns which pod address. Of two claimants: the pod of this node whose address an interface here leads to, else the one that started
//! later, else the first by name.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use super::{Pod, PodPhase, SetAside, View};
use crate::ids::ObjectRef;

/// A pod that has an address.
pub(super) type Owner<'a> = (&'a ObjectRef, &'a Pod);
/// The owner of each pod address in the cluster.
pub(super) type Owners<'a> = BTreeMap<IpAddr, Owner<'a>>;

/// The owner of each pod address in the cluster. Completed pods keep their address in the API and own none; pods on the host's network have
/// the node's.
pub(super) fn of_addresses<'a>(inputs: &View<'a>, set_aside: &mut BTreeSet<SetAside>) -> Owners<'a> {
    let mut claims: Vec<(IpAddr, Owner<'a>)> = Vec::with_capacity(inputs.pods.len());
    for (name, pod) in inputs.pods {
        if pod.host_network || pod.phase == PodPhase::Finished {
            continue;
        }
        for (index, address) in pod.ips.iter().enumerate() {
            if inputs.facts.node_addresses.contains(address) {
                set_aside.insert(aside(
                    name,
                    "node_address",
                    format!("its address {address} is one of this node's own"),
                ));
            } else if !pod.ips[..index].contains(address) {
                claims.push((*address, (name, pod)));
            }
        }
    }
    // sorted once, since a map that grows by ten thousand addresses costs several times as much
    claims.sort_unstable_by_key(|(address, _)| *address);
    let of_one_address = claims.chunk_by(|(one, _), (other, _)| one == other);
    of_one_address
        .filter_map(|claims| winner(inputs, claims, set_aside))
        .collect()
}

/// The addresses of a pod that it owns, as the API has them.
pub(super) fn owned<'a>((name, pod): Owner<'a>, owners: &'a Owners<'a>) -> impl Iterator<Item = &'a IpAddr> {
    let is_own = move |address: &&IpAddr| owners.get(address).is_some_and(|(owner, _)| *owner == name);
    pod.ips.iter().filter(is_own)
}

fn winner<'a>(
    inputs: &View<'a>,
    claims: &[(IpAddr, Owner<'a>)],
    set_aside: &mut BTreeSet<SetAside>,
) -> Option<(IpAddr, Owner<'a>)> {
    let is_here = |address: &IpAddr, pod: &Pod| {
        pod.node.as_ref() == Some(inputs.node) && inputs.facts.on_link.contains_key(address)
    };
    let (address, owner) = claims
        .iter()
        .max_by_key(|(address, (name, pod))| (is_here(address, pod), pod.start_time, Reverse(*name)))?;
    for (_, (loser, _)) in claims.iter().filter(|(_, (name, _))| *name != owner.0) {
        set_aside.insert(aside(
            loser,
            "address_conflict",
            format!("its address {address} belongs to pod {}", owner.0),
        ));
    }
    Some((*address, *owner))
}

fn aside(pod: &ObjectRef, reason: &'static str, detail: String) -> SetAside {
    SetAside {
        kind: "Pod".to_owned(),
        name: pod.to_string(),
        reason,
        detail,
    }
}
