//! Who owns an address.

use super::{
    super::{Inputs, Pod, PodPhase, build},
    empty, ip, local, object, remote, set_aside,
};

const ADDRESS: &str = "10.0.0.1";

/// The owner of [`ADDRESS`], as `namespace/name`.
fn owner(inputs: &Inputs) -> Option<String> {
    build(inputs)
        .workload(ip(ADDRESS))
        .map(|workload| workload.pod.to_string())
}

fn started(seconds: i64, pod: Pod) -> Pod {
    Pod {
        start_time: Some(seconds),
        ..pod
    }
}

#[test]
fn a_pod_owns_its_address_wherever_it_runs() {
    for pod in [
        local(&[ADDRESS]),
        remote(&[ADDRESS]),
        Pod {
            node: None,
            ..local(&[ADDRESS])
        },
    ] {
        let mut inputs = empty();
        inputs.pod("a/p", pod.clone());
        assert_eq!(owner(&inputs).as_deref(), Some("a/p"), "{pod:?}");
        assert_eq!(set_aside(&build(&inputs)), [""; 0]);
    }
}

#[test]
fn finished_and_host_network_pods_own_nothing() {
    let finished = Pod {
        phase: PodPhase::Finished,
        ..local(&[ADDRESS])
    };
    let host_network = Pod {
        host_network: true,
        ..local(&[ADDRESS])
    };
    for pod in [finished, host_network] {
        let mut inputs = empty();
        inputs.pod("a/p", pod.clone());
        assert_eq!(owner(&inputs), None, "{pod:?}");
        // nor do they stand in the way of the pod that has the address now
        inputs.pod("b/new", remote(&[ADDRESS]));
        assert_eq!(owner(&inputs).as_deref(), Some("b/new"), "{pod:?}");
        assert_eq!(set_aside(&build(&inputs)), [""; 0]);
    }
}

#[test]
fn of_two_claimants_the_one_here_then_the_later_then_the_first_by_name_wins() {
    for (why, routed, a, b, expected) in [
        (
            "an interface here",
            true,
            started(1, local(&[ADDRESS])),
            started(9, remote(&[ADDRESS])),
            "x/a",
        ),
        (
            "on this node, but no interface leads there",
            false,
            started(1, local(&[ADDRESS])),
            started(9, remote(&[ADDRESS])),
            "x/b",
        ),
        (
            "both here: the later",
            true,
            started(1, local(&[ADDRESS])),
            started(9, local(&[ADDRESS])),
            "x/b",
        ),
        (
            "the later start",
            false,
            started(9, remote(&[ADDRESS])),
            started(1, remote(&[ADDRESS])),
            "x/a",
        ),
        (
            "one that started before one that has not",
            false,
            remote(&[ADDRESS]),
            started(1, remote(&[ADDRESS])),
            "x/b",
        ),
        (
            "the first by name",
            false,
            started(1, remote(&[ADDRESS])),
            started(1, remote(&[ADDRESS])),
            "x/a",
        ),
    ] {
        let mut inputs = empty();
        inputs.pod("x/a", a).pod("x/b", b);
        if routed {
            inputs.route(ADDRESS, 10);
        }
        assert_eq!(owner(&inputs).as_deref(), Some(expected), "{why}");
        let loser = if expected == "x/a" { "x/b" } else { "x/a" };
        assert_eq!(
            set_aside(&build(&inputs)),
            [format!("Pod {loser} address_conflict")],
            "{why}"
        );
    }
}

#[test]
fn the_nodes_own_address_is_no_pods() {
    let mut inputs = empty();
    inputs.facts.node_addresses.insert(ip(ADDRESS));
    inputs.pod("a/p", local(&[ADDRESS, "fd00::1"]));
    let content = build(&inputs);
    assert_eq!(owner(&inputs), None);
    assert_eq!(set_aside(&content), ["Pod a/p node_address"]);
    assert!(content.workload(ip("fd00::1")).is_some(), "its other address stays");
}

#[test]
fn an_address_listed_twice_is_one_claim() {
    let mut inputs = empty();
    inputs.pod("a/p", local(&[ADDRESS, ADDRESS]));
    assert_eq!(owner(&inputs).as_deref(), Some("a/p"));
    assert_eq!(set_aside(&build(&inputs)), [""; 0]);
}

#[test]
fn both_families_lead_to_the_same_workload() {
    let mut inputs = empty();
    inputs.pod("a/p", remote(&[ADDRESS, "fd00::1"]));
    let content = build(&inputs);
    assert_eq!(content.workload(ip(ADDRESS)), content.workload(ip("fd00::1")));
    assert_eq!(content.workload(ip("fd00::1")).unwrap().pod, object("a/p"));
}
