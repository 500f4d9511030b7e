//! What the API should say: every capture, gates, conditions that are there already, other pods of the same name, what is set aside.

use super::{
    super::{
        desired::{NOTE_BYTES_MAX, Notice, SET_ASIDE_TOLD_MAX, Wait, desired},
        verdict::{Tell, verdict},
    },
    INTERFACE, ack, aside, condition, local, locals, node, object,
};
use crate::{
    model::{Ack, Capture, NotCaptured},
    watch::local::LocalPod,
};

const POD: &str = "shop/web";

const fn not(reason: NotCaptured) -> Capture {
    Capture::Not(reason)
}

/// Status, reason, and when an Event tells it.
type Said = (&'static str, &'static str, Tell);

/// Every capture, and what is said of it.
const TABLE: [(Capture, Option<Said>); 8] = [
    (Capture::Captured(INTERFACE), Some(("True", "Captured", Tell::Now))),
    (
        not(NotCaptured::NotLabelled),
        Some(("False", "NotEnabled", Tell::Never)),
    ),
    (not(NotCaptured::HostNetwork), Some(("False", "HostNetwork", Tell::Now))),
    (not(NotCaptured::Finished), None),
    (
        not(NotCaptured::NoAddress),
        Some(("False", "NoAddress", Tell::IfItLasts)),
    ),
    (
        not(NotCaptured::NoInterface),
        Some(("False", "NoInterface", Tell::IfItLasts)),
    ),
    (
        not(NotCaptured::SharedInterface),
        Some(("False", "SharedInterface", Tell::IfItLasts)),
    ),
    (not(NotCaptured::BridgePort), Some(("False", "BridgePort", Tell::Now))),
];

#[test]
fn every_capture_has_its_verdict() {
    for (capture, expected) in TABLE {
        let found = verdict(capture, &ack(&[]));
        let found = found.as_ref().map(|found| {
            assert!(
                found.message.ends_with('.'),
                "{capture:?}: no sentence: {}",
                found.message
            );
            assert!(found.message.len() <= NOTE_BYTES_MAX, "{capture:?}");
            (
                if found.is_captured { "True" } else { "False" },
                found.reason,
                found.tell,
            )
        });
        assert_eq!(found, expected, "{capture:?}");
    }
}

#[test]
fn conditions_and_events_follow_the_verdicts() {
    for (capture, expected) in TABLE {
        let pods = [(
            object(POD),
            LocalPod {
                is_gated: true,
                ..local(POD)
            },
        )]
        .into();
        let found = desired(&node(), Some(&ack(&[(POD, capture)])), &pods);
        let said = found.conditions.get(&object(POD));
        let said = said.map(|wanted| (wanted.condition.status.as_str(), wanted.condition.reason.as_str()));
        assert_eq!(
            said,
            expected.map(|(status, reason, _)| (status, reason)),
            "{capture:?}"
        );
        let told: Vec<_> = found
            .notices
            .values()
            .map(|notice| (notice.reason, notice.is_warning, notice.wait))
            .collect();
        let reason = |status| {
            if status == "True" {
                ("Captured", false)
            } else {
                ("CaptureFailed", true)
            }
        };
        let due: Vec<_> = expected
            .into_iter()
            .filter_map(|(status, _, tell)| match tell {
                Tell::Never => None,
                Tell::Now => Some((reason(status).0, reason(status).1, Wait::None)),
                Tell::IfItLasts => Some((reason(status).0, reason(status).1, Wait::Lasting)),
            })
            .collect();
        assert_eq!(told, due, "{capture:?}");
    }
}

#[test]
fn nobody_asked_so_nothing_is_said_unless_somebody_looks() {
    let capture = not(NotCaptured::NotLabelled);
    for (is_gated, captured, expected) in [
        (false, None, false),
        (true, None, true),
        (false, Some(condition("True", "Captured")), true),
    ] {
        let pod = LocalPod {
            is_gated,
            captured: captured.clone(),
            ..local(POD)
        };
        let found = desired(&node(), Some(&ack(&[(POD, capture)])), &[(object(POD), pod)].into());
        assert_eq!(
            found.conditions.contains_key(&object(POD)),
            expected,
            "{is_gated} {captured:?}"
        );
        assert!(found.notices.is_empty(), "nobody asked, so there is no Event");
        if let Some(wanted) = found.conditions.get(&object(POD)) {
            assert_eq!(
                (wanted.condition.reason.as_str(), &wanted.shown),
                ("NotEnabled", &captured)
            );
        }
    }
}

#[test]
fn nothing_is_said_before_anything_is_applied_and_of_pods_that_are_not_in_it() {
    assert_eq!(desired(&node(), None, &locals(&[POD])), Default::default());
    assert_eq!(desired(&node(), Some(&ack(&[])), &locals(&[POD])), Default::default());
    let gone = ack(&[(POD, Capture::Captured(INTERFACE))]);
    assert_eq!(desired(&node(), Some(&gone), &locals(&[])), Default::default());
}

#[test]
fn what_is_applied_for_an_earlier_pod_of_the_name_is_not_said_of_the_new_one() {
    let captured = ack(&[(POD, Capture::Captured(INTERFACE))]);
    let new = LocalPod {
        uid: "another".into(),
        is_gated: true,
        captured: None,
    };
    assert_eq!(
        desired(&node(), Some(&captured), &[(object(POD), new)].into()),
        Default::default()
    );
    let same = desired(&node(), Some(&captured), &locals(&[POD]));
    assert_eq!(same.conditions[&object(POD)].uid, "uid-web");
}

#[test]
fn a_captured_pod_waits_for_its_program_and_for_the_ways_back() {
    let mut applied = ack(&[(POD, Capture::Captured(INTERFACE))]);
    let said = |applied: &Ack| {
        let found = desired(&node(), Some(applied), &locals(&[POD]));
        let condition = found.conditions[&object(POD)].condition.clone();
        let notice = found.notices.into_values().next().unwrap();
        assert_eq!(notice.note, condition.message);
        (condition, notice.reason, notice.wait)
    };
    applied.held_back = true;
    let (condition, reason, wait) = said(&applied);
    assert_eq!(
        (condition.status.as_str(), condition.reason.as_str()),
        ("False", "HeldBack")
    );
    assert_eq!((reason, wait), ("CaptureFailed", Wait::Lasting));
    applied.unattached.insert(INTERFACE + 1, "another's trouble".into());
    assert_eq!(said(&applied).0.reason, "HeldBack");
    applied.unattached.insert(INTERFACE, "the kernel said EPERM.".into());
    let (condition, reason, wait) = said(&applied);
    assert_eq!(
        (condition.status.as_str(), condition.reason.as_str()),
        ("False", "ProgramNotAttached")
    );
    assert!(
        condition.message.contains("the kernel said EPERM;"),
        "{}",
        condition.message
    );
    assert_eq!((reason, wait), ("CaptureFailed", Wait::Lasting));
    applied.unattached.insert(INTERFACE, "é".repeat(4000));
    assert!(said(&applied).0.message.len() <= NOTE_BYTES_MAX);
}

fn notices(applied: &Ack, pods: &[&str]) -> Vec<(String, Notice)> {
    let found = desired(&node(), Some(applied), &locals(pods));
    found
        .notices
        .into_iter()
        .map(|(name, notice)| (name.to_string(), notice))
        .collect()
}

#[test]
fn events_tell_what_is_set_aside_of_kinds_that_the_api_has() {
    for (kind, name, expected) in [
        ("Service", "shop/s", Some(("v1", "shop", Wait::Spread))),
        ("Pod", "shop/other", Some(("v1", "shop", Wait::Spread))),
        ("Pod", "shop/web", Some(("v1", "shop", Wait::Lasting))),
        (
            "EndpointSlice",
            "shop/s-1",
            Some(("discovery.k8s.io/v1", "shop", Wait::Spread)),
        ),
        (
            "HTTPRoute",
            "shop/r",
            Some(("gateway.networking.k8s.io/v1", "shop", Wait::Spread)),
        ),
        (
            "TrafficPolicy",
            "shop/p",
            Some(("weft.mesh/v1alpha1", "shop", Wait::Spread)),
        ),
        ("Namespace", "shop", Some(("v1", "default", Wait::Spread))),
        ("Node", "n1.example", Some(("v1", "default", Wait::Spread))),
        ("File", "/etc/weft/a.yaml", None),
        ("Setting", "--pod-cidr", None),
        ("Map", "services", None),
        ("Service", "no-namespace", None),
        ("Service", "shop/(no name)", None),
        ("Service", "../x/y", None),
        ("Deployment", "shop/web", None),
    ] {
        let found = notices(&aside(&[(kind, name)]), &[POD]);
        let told = found.first().map(|(event, notice)| {
            assert_eq!((notice.reason, notice.is_warning), ("SetAside", true));
            assert_eq!(notice.note, "invalid_port: port 0 is none");
            assert_eq!(notice.regarding.kind, kind);
            let own = notice.wait == Wait::Lasting;
            assert_eq!(notice.regarding.uid.as_deref(), own.then_some("uid-web"));
            (
                notice.regarding.api_version,
                event.split_once('/').unwrap().0,
                notice.wait,
            )
        });
        assert_eq!(told, expected, "{kind} {name}");
    }
}

#[test]
fn every_node_gives_an_event_the_same_name_and_different_events_have_different_ones() {
    let name = |applied: &Ack, pods: &[&str]| notices(applied, pods).remove(0).0;
    let applied = aside(&[("Pod", "shop/web")]);
    assert_eq!(
        name(&applied, &[POD]),
        name(&applied, &[]),
        "the pod's own node, and another"
    );
    assert_eq!(
        name(&aside(&[("Service", "shop/web")]), &[]),
        name(&aside(&[("Service", "shop/web")]), &["shop/x"])
    );
    assert_ne!(name(&applied, &[]), name(&aside(&[("Service", "shop/web")]), &[]));
    let captured = ack(&[(POD, Capture::Captured(INTERFACE))]);
    let failed = ack(&[(POD, not(NotCaptured::HostNetwork))]);
    assert_ne!(name(&captured, &[POD]), name(&failed, &[POD]));
    // a new pod of the same name is told about again
    let new = [(
        object(POD),
        LocalPod {
            uid: "another".into(),
            ..local(POD)
        },
    )]
    .into();
    let (again, _) = desired(&node(), Some(&failed), &new).notices.pop_first().unwrap();
    assert_ne!(name(&failed, &[POD]), again.to_string());
    let long = format!("shop/{}", "a.".repeat(126) + "b");
    let event = name(&aside(&[("Service", &long)]), &[]);
    assert!(event.len() <= "shop/".len() + 253 && !event.contains(".."), "{event}");
}

#[test]
fn the_first_of_too_many_are_told_the_same_on_every_node() {
    let names: Vec<_> = (0..SET_ASIDE_TOLD_MAX + 50)
        .map(|number| format!("shop/s-{number:04}"))
        .collect();
    let items: Vec<_> = names.iter().map(|name| ("Service", name.as_str())).collect();
    let told = notices(&aside(&items), &[]);
    assert_eq!(told.len(), SET_ASIDE_TOLD_MAX);
    assert!(told.iter().any(|(name, _)| name.starts_with("shop/s-0000.")));
    assert!(!told.iter().any(|(name, _)| name.starts_with("shop/s-0200.")));
}
