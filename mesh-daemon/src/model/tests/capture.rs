//! Which pods of this node are captured, what the interface table says, and where programs stand.

use mesh_common::{
    addr::Addr,
    capture::{IFACE_CAPTURED, Iface},
};

use super::{
    super::{Capture, Inputs, LinkKind, NotCaptured, Pod, PodPhase, Program, build},
    empty, ip, labelled, local, object, remote, set_aside, shop,
};

const ADDRESS: &str = "10.0.0.1";
const CAPTURED: Capture = Capture::Captured(10);

fn not(reason: NotCaptured) -> Capture {
    Capture::Not(reason)
}

/// `shop` with one pod behind veth10.
fn with(pod: Pod) -> Inputs {
    let mut inputs = shop();
    inputs.pod("shop/p", pod).route(ADDRESS, 10);
    inputs
}

fn capture(inputs: &Inputs) -> Capture {
    build(inputs).captures[&object("shop/p")]
}

#[test]
fn the_pods_label_wins_over_its_namespaces() {
    for (namespace, pod, captured, refused) in [
        (None, None, false, ""),
        (Some("enabled"), None, true, ""),
        (Some("disabled"), None, false, ""),
        (None, Some("enabled"), true, ""),
        (Some("disabled"), Some("enabled"), true, ""),
        (Some("enabled"), Some("disabled"), false, ""),
        // what is neither word counts as not said
        (Some("true"), None, false, "Namespace shop invalid_capture_label"),
        (Some("Enabled"), None, false, "Namespace shop invalid_capture_label"),
        (
            Some("yes"),
            Some("enabled"),
            true,
            "Namespace shop invalid_capture_label",
        ),
        (Some("enabled"), Some(""), true, "Pod shop/p invalid_capture_label"),
        (Some("disabled"), Some("on"), false, "Pod shop/p invalid_capture_label"),
    ] {
        let mut inputs = with(Pod {
            capture_label: pod.map(str::to_owned),
            ..local(&[ADDRESS])
        });
        inputs.namespaces.insert("shop".to_owned(), labelled(namespace));
        let expected = if captured {
            CAPTURED
        } else {
            not(NotCaptured::NotLabelled)
        };
        assert_eq!(capture(&inputs), expected, "{namespace:?} {pod:?}");
        let expected: Vec<_> = [refused].into_iter().filter(|refused| !refused.is_empty()).collect();
        assert_eq!(set_aside(&build(&inputs)), expected, "{namespace:?} {pod:?}");
    }
}

#[test]
fn an_unknown_namespace_asks_for_nothing() {
    let mut inputs = with(local(&[ADDRESS]));
    inputs.namespaces.clear();
    assert_eq!(capture(&inputs), not(NotCaptured::NotLabelled));
}

#[test]
fn a_hostile_label_is_reported_without_its_control_characters() {
    let mut inputs = with(Pod {
        capture_label: Some("a\nb\u{1b}".to_owned()),
        ..local(&[ADDRESS])
    });
    inputs.namespaces.clear();
    let content = build(&inputs);
    let detail = &content.set_aside.first().unwrap().detail;
    assert!(!detail.contains(char::is_control), "{detail:?}");
}

#[test]
fn wefts_own_pods_are_never_captured() {
    let mut inputs = shop();
    inputs
        .namespaces
        .insert("weft-system".to_owned(), labelled(Some("enabled")));
    let pod = Pod {
        capture_label: Some("enabled".to_owned()),
        ..local(&[ADDRESS])
    };
    inputs.pod("weft-system/p", pod).route(ADDRESS, 10);
    let content = build(&inputs);
    assert_eq!(
        content.captures[&object("weft-system/p")],
        not(NotCaptured::NotLabelled)
    );
    assert_eq!(content.tables.ifaces[&10].flags, 0);
}

#[test]
fn what_a_pod_is_comes_before_what_its_label_asks() {
    for (pod, expected) in [
        (
            Pod {
                host_network: true,
                ..local(&[ADDRESS])
            },
            NotCaptured::HostNetwork,
        ),
        (
            Pod {
                phase: PodPhase::Finished,
                ..local(&[ADDRESS])
            },
            NotCaptured::Finished,
        ),
        (local(&[]), NotCaptured::NoAddress),
        (local(&["10.0.0.9"]), NotCaptured::NoInterface),
    ] {
        let inputs = with(pod.clone());
        assert_eq!(capture(&inputs), not(expected), "{pod:?}");
        let tables = build(&inputs).tables;
        assert!(tables.ifaces.is_empty(), "{pod:?}");
        assert_eq!(tables.attachments[&10].program, Program::FromNet, "{pod:?}");
    }
}

#[test]
fn a_pod_on_the_nodes_network_that_nobody_asked_for_is_just_not_labelled() {
    let mut inputs = with(Pod {
        host_network: true,
        ..local(&[ADDRESS])
    });
    inputs.namespaces.clear();
    assert_eq!(capture(&inputs), not(NotCaptured::NotLabelled));
}

#[test]
fn pods_of_other_nodes_are_none_of_our_business() {
    let inputs = with(remote(&[ADDRESS]));
    let content = build(&inputs);
    assert!(content.captures.is_empty());
    assert!(content.tables.ifaces.is_empty());
}

#[test]
fn a_pod_whose_address_another_owns_has_none() {
    let mut inputs = with(local(&[ADDRESS]));
    let later = Pod {
        start_time: Some(1),
        ..local(&[ADDRESS])
    };
    inputs.pod("shop/later", later);
    assert_eq!(capture(&inputs), not(NotCaptured::NoAddress));
    assert_eq!(build(&inputs).captures[&object("shop/later")], CAPTURED);
}

#[test]
fn a_pods_interface_stands_in_the_table_captured_or_not() {
    for (label, flags) in [("enabled", IFACE_CAPTURED), ("disabled", 0)] {
        let mut inputs = with(Pod {
            capture_label: Some(label.to_owned()),
            ..local(&["fd00::1", ADDRESS])
        });
        inputs.route("fd00::1", 10);
        let content = build(&inputs);
        let iface = Iface {
            flags,
            addr4: Addr::from(ip(ADDRESS)),
            addr6: Addr::from(ip("fd00::1")),
        };
        assert_eq!(content.tables.ifaces, [(10, iface)].into(), "{label}");
        assert_eq!(content.tables.attachments[&10].program, Program::FromPod, "{label}");
        assert_eq!(content.workload(ip(ADDRESS)).unwrap().interface, Some(10), "{label}");
    }
}

#[test]
fn one_family_may_be_known_before_the_other() {
    let mut inputs = with(local(&[ADDRESS, "fd00::1"]));
    let both = Addr::from(ip("fd00::1"));
    assert_eq!(capture(&inputs), CAPTURED);
    assert_eq!(
        build(&inputs).tables.ifaces[&10].addr6,
        both,
        "it is the pod's all the same"
    );
    inputs.pods.get_mut(&object("shop/p")).unwrap().ips.pop();
    assert_eq!(build(&inputs).tables.ifaces[&10].addr6, Addr::NONE);
}

#[test]
fn a_pod_behind_several_interfaces_is_not_captured() {
    let mut inputs = with(local(&[ADDRESS, "fd00::1"]));
    inputs.route("fd00::1", 11);
    assert_eq!(capture(&inputs), not(NotCaptured::NoInterface));
    let content = build(&inputs);
    assert_eq!(set_aside(&content), ["Pod shop/p several_interfaces"]);
    assert!(content.tables.ifaces.is_empty());
}

#[test]
fn an_address_that_another_pod_owns_leads_to_no_interface_of_this_one() {
    let mut inputs = with(local(&[ADDRESS, "fd00::1"]));
    inputs.route("fd00::1", 11);
    let owner = Pod {
        start_time: Some(1),
        ..local(&["fd00::1"])
    };
    inputs.pod("shop/owner", owner);
    let content = build(&inputs);
    assert_eq!(content.captures[&object("shop/p")], CAPTURED);
    assert_eq!(content.captures[&object("shop/owner")], Capture::Captured(11));
    assert_eq!(content.tables.ifaces[&10].addr6, Addr::NONE);
}

#[test]
fn pods_behind_one_interface_are_not_captured() {
    let mut inputs = with(local(&[ADDRESS]));
    let uncaptured = Pod {
        capture_label: Some("disabled".to_owned()),
        ..local(&["10.0.0.2"])
    };
    inputs.pod("shop/q", uncaptured).route("10.0.0.2", 10);
    let content = build(&inputs);
    assert_eq!(content.captures[&object("shop/p")], not(NotCaptured::SharedInterface));
    assert_eq!(content.captures[&object("shop/q")], not(NotCaptured::NotLabelled));
    assert!(content.tables.ifaces.is_empty());
    assert_eq!(content.tables.attachments[&10].program, Program::FromNet);
    assert_eq!(content.workload(ip(ADDRESS)).unwrap().interface, None);
}

#[test]
fn a_finished_pod_shares_nothing() {
    let mut inputs = with(local(&[ADDRESS]));
    let finished = Pod {
        phase: PodPhase::Finished,
        ..local(&["10.0.0.2"])
    };
    inputs.pod("shop/q", finished).route("10.0.0.2", 10);
    assert_eq!(capture(&inputs), CAPTURED);
}

#[test]
fn what_the_interface_is_decides() {
    // the interface's kind and its master's
    for (kind, master, expected) in [
        (LinkKind::Ethernet, None, CAPTURED),
        (LinkKind::Ethernet, Some(LinkKind::Ethernet), CAPTURED),
        (LinkKind::Ethernet, Some(LinkKind::Bridge), not(NotCaptured::BridgePort)),
        (LinkKind::Bridge, None, not(NotCaptured::BridgePort)),
        (LinkKind::NoLinkLayer, None, not(NotCaptured::NoInterface)),
        (LinkKind::Loopback, None, not(NotCaptured::NoInterface)),
    ] {
        let mut inputs = with(local(&[ADDRESS]));
        inputs.link(10, "it", kind, master.map(|_| 20));
        if let Some(master) = master {
            inputs.link(20, "master", master, None);
        }
        assert_eq!(capture(&inputs), expected, "{kind:?} {master:?}");
    }
}

#[test]
fn a_route_to_an_interface_that_is_gone_leads_nowhere() {
    let mut inputs = with(local(&[ADDRESS]));
    inputs.facts.links.remove(&10);
    assert_eq!(capture(&inputs), not(NotCaptured::NoInterface));
    assert!(!build(&inputs).tables.attachments.contains_key(&10));
}

#[test]
fn programs_stand_by_what_an_interface_is() {
    let mut inputs = empty();
    for (index, name, kind, master) in [
        (1, "lo", LinkKind::Loopback, None),
        (2, "eth0", LinkKind::Ethernet, None),
        (3, "wg0", LinkKind::NoLinkLayer, None),
        (4, "cni0", LinkKind::Bridge, None),
        (5, "port", LinkKind::Ethernet, Some(4)),
        (6, "bond0", LinkKind::Ethernet, None),
        (7, "eth1", LinkKind::Ethernet, Some(6)),
        (8, "orphan", LinkKind::Ethernet, Some(99)),
        (9, "vxlan0", LinkKind::Ethernet, Some(4)),
    ] {
        inputs.link(index, name, kind, master);
    }
    let attachments: Vec<_> = build(&inputs)
        .tables
        .attachments
        .into_values()
        .map(|attachment| (attachment.interface, attachment.program))
        .collect();
    let expected = [
        ("eth0", Program::FromNet),
        ("wg0", Program::FromNetL3),
        ("cni0", Program::FromNet),
        ("bond0", Program::FromNet),
        ("eth1", Program::FromNet),
        ("orphan", Program::FromNet),
    ];
    assert_eq!(attachments, expected.map(|(name, program)| (name.to_owned(), program)));
}
