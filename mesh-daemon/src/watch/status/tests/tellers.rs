//! Who tells of what every node sees: three of a thousand nodes, both of two, and the work is shared out.

use std::{collections::BTreeMap, sync::Arc};

use super::{
    super::{
        desired::desired,
        tellers::{TELLERS, Tellers},
    },
    aside, locals, object,
};
use crate::{
    ids::{NodeName, ObjectRef},
    model::{Ack, Workload},
};

fn nodes(count: usize) -> Vec<NodeName> {
    (0..count)
        .map(|number| NodeName(format!("node-{number}.example")))
        .collect()
}

/// Who of them tells, if each knows all.
fn telling<'a>(nodes: &'a [NodeName], event: &ObjectRef) -> Vec<&'a NodeName> {
    let tellers = Tellers::new(nodes.iter());
    nodes.iter().filter(|own| tellers.has_to_tell(own, event)).collect()
}

#[test]
fn a_few_nodes_tell_of_an_object() {
    for (count, expected) in [(1, 1), (2, 2), (3, 3), (4, TELLERS), (100, TELLERS), (1000, TELLERS)] {
        let nodes = nodes(count);
        for event in ["shop/s.0123", "shop/s.0124", "default/n1.0123"] {
            assert_eq!(
                telling(&nodes, &object(event)).len(),
                expected,
                "{count} nodes, {event}"
            );
        }
    }
}

#[test]
fn objects_are_shared_out_evenly() {
    let nodes = nodes(10);
    let mut told: BTreeMap<&NodeName, usize> = BTreeMap::new();
    for number in 0..1000 {
        for node in telling(&nodes, &object(&format!("shop/s-{number}.0123"))) {
            *told.entry(node).or_default() += 1;
        }
    }
    assert_eq!(told.len(), nodes.len());
    for (node, count) in told {
        assert!(
            (240..360).contains(&count),
            "{node} tells of {count} of 1000 objects, 300 are its share"
        );
    }
}

#[test]
fn another_node_changes_little_and_one_that_nobody_knows_counts_itself() {
    let nodes = nodes(50);
    for number in 0..200 {
        let event = object(&format!("shop/s-{number}.0123"));
        let (before, after) = (telling(&nodes[..49], &event), telling(&nodes, &event));
        let stayed = before.iter().filter(|node| after.contains(node)).count();
        assert!(stayed >= TELLERS - 1, "{event}: {before:?}, {after:?}");
        let has_to_tell = |known: &[NodeName]| Tellers::new(known.iter()).has_to_tell(&nodes[49], &event);
        assert_eq!(has_to_tell(&nodes[..49]), has_to_tell(&nodes), "{event}");
    }
    assert!(Tellers::new([].iter()).has_to_tell(&nodes[0], &object("shop/s.0123")));
}

/// Something set aside, in a cluster with a pod on each of these nodes.
fn applied(kind: &str, name: &str, nodes: &[NodeName]) -> Ack {
    let mut ack = aside(&[(kind, name)]);
    let snapshot = Arc::make_mut(&mut ack.snapshot);
    for (number, node) in nodes.iter().enumerate() {
        let pod = ObjectRef::new("shop", format!("pod-{number}"));
        let workload = Workload {
            weight: 1,
            uid: format!("uid-{number}"),
            name: pod.name.clone(),
            node: Some(node.clone()),
            interface: None,
            pod,
        };
        let number = u32::try_from(number).unwrap();
        let address = std::net::Ipv4Addr::from_bits(0x0a00_0000 + number);
        snapshot.content.workloads.insert(address.into(), Arc::new(workload));
    }
    ack
}

#[test]
fn what_is_set_aside_is_told_by_a_few_nodes_and_by_the_pods_own() {
    let nodes = nodes(100);
    for (kind, pods, expected) in [
        ("Service", &[][..], TELLERS),
        ("Pod", &[], TELLERS),
        // as if the pod were everyone's
        ("Pod", &["shop/s"], 100),
    ] {
        let ack = applied(kind, "shop/s", &nodes);
        let telling = nodes
            .iter()
            .filter(|node| !desired(node, Some(&ack), &locals(pods)).notices.is_empty());
        assert_eq!(telling.count(), expected, "{kind} {pods:?}");
    }
}
