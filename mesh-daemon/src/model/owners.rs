//! Who owns which pod address. Of two claimants: the pod of this node whose address an interface here leads to, else the one that started
//! later, else the first by name.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use super::{Pod, PodPhase, SetAside, View};
use crate::ids::ObjectRef;

/// The owner of each pod address in the cluster. Completed pods keep their address in the API and own none; pods on the host's network have
/// the node's.
pub(super) fn of_addresses(inputs: &View<'_>, set_aside: &mut BTreeSet<SetAside>) -> BTreeMap<IpAddr, ObjectRef> {
    let mut claims: BTreeMap<IpAddr, Vec<(&ObjectRef, &Pod)>> = BTreeMap::new();
    for (name, pod) in inputs.pods {
        if pod.host_network || pod.phase == PodPhase::Finished {
            continue;
        }
        for address in pod.ips.iter().collect::<BTreeSet<_>>() {
            if inputs.facts.node_addresses.contains(address) {
                set_aside.insert(aside(
                    name,
                    "node_address",
                    format!("its address {address} is one of this node's own"),
                ));
            } else {
                claims.entry(*address).or_default().push((name, pod));
            }
        }
    }
    claims
        .into_iter()
        .filter_map(|(address, claimants)| Some((address, winner(inputs, address, &claimants, set_aside)?)))
        .collect()
}

fn winner(
    inputs: &View<'_>,
    address: IpAddr,
    claimants: &[(&ObjectRef, &Pod)],
    set_aside: &mut BTreeSet<SetAside>,
) -> Option<ObjectRef> {
    let is_here = |pod: &Pod| pod.node.as_ref() == Some(inputs.node) && inputs.facts.on_link.contains_key(&address);
    let (owner, _) = claimants
        .iter()
        .max_by_key(|(name, pod)| (is_here(pod), pod.start_time, Reverse(*name)))?;
    for (loser, _) in claimants.iter().filter(|(name, _)| name != owner) {
        set_aside.insert(aside(
            loser,
            "address_conflict",
            format!("its address {address} belongs to pod {owner}"),
        ));
    }
    Some((*owner).clone())
}

fn aside(pod: &ObjectRef, reason: &'static str, detail: String) -> SetAside {
    SetAside {
        kind: "Pod".to_owned(),
        name: pod.to_string(),
        reason,
        detail,
    }
}
