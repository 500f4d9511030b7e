//! Events → objects, one rule after the other.

use serde_json::json;

use super::{
    super::{raw::Raw, store::Store},
    object, pod,
};
use crate::{
    ids::{NodeName, ObjectRef},
    watch::objects::Kind,
};

const POD: Kind = Kind::Pod;

/// A store whose list of Pods was empty.
fn store() -> Store {
    let mut store = Store::new(NodeName("n1".into()));
    store.begin(POD);
    assert!(store.complete(POD));
    store
}

/// `name address` of each pod, and the reasons of what is set aside.
fn told(store: &Store) -> Vec<String> {
    let pods = store.objects().pods.iter();
    let pods = pods.map(|(name, pod)| format!("{} {:?}", name.name, pod.ips));
    let refused = store.objects().refused.iter();
    pods.chain(refused.map(|item| item.reason.to_owned())).collect()
}

#[test]
fn a_list_takes_effect_as_a_whole() {
    let mut store = Store::new(NodeName("n1".into()));
    store.begin(POD);
    store.listed(POD, pod("a", "1", 1, "10.0.0.1"));
    assert!(told(&store).is_empty() && !store.was_listed(POD));
    assert!(store.complete(POD) && store.was_listed(POD) && !store.is_complete());
    assert_eq!(told(&store), ["a [10.0.0.1]"]);
    // a relist that is begun, half told, and begun again
    store.begin(POD);
    store.listed(POD, pod("ghost", "9", 2, "10.0.0.9"));
    store.begin(POD);
    store.listed(POD, pod("b", "2", 3, "10.0.0.2"));
    assert_eq!(told(&store), ["a [10.0.0.1]"]);
    assert!(store.complete(POD));
    assert_eq!(told(&store), ["b [10.0.0.2]"]);
    // the same list again says nothing new
    store.begin(POD);
    store.listed(POD, pod("b", "2", 4, "10.0.0.2"));
    assert!(!store.complete(POD));
    // an empty list of every other kind completes it, and that is news
    for kind in Kind::ALL.into_iter().filter(|kind| *kind != POD) {
        store.begin(kind);
        assert!(!store.is_complete());
        assert!(store.complete(kind));
    }
    assert!(store.is_complete());
}

#[test]
fn what_the_model_does_not_see_is_no_change() {
    let mut store = store();
    assert!(store.applied(POD, pod("a", "1", 1, "10.0.0.1")));
    let mut heartbeat = pod("a", "1", 2, "10.0.0.1");
    heartbeat.0["status"]["conditions"] =
        json!([{"type": "Ready", "status": "True", "lastProbeTime": "2026-01-01T00:00:00Z"}]);
    assert!(!store.applied(POD, heartbeat));
    assert!(store.applied(POD, pod("a", "1", 3, "10.0.0.2")));
    // told again, late
    assert!(!store.applied(POD, pod("a", "1", 1, "10.0.0.1")));
    assert_eq!(told(&store), ["a [10.0.0.2]"]);
    assert!(!store.deleted(POD, &pod("unknown", "7", 4, "10.0.0.7")));
    assert!(store.deleted(POD, &pod("a", "1", 4, "10.0.0.2")));
    assert!(!store.deleted(POD, &pod("a", "1", 4, "10.0.0.2")));
    assert!(told(&store).is_empty());
}

#[test]
fn the_uid_tells_who_is_deleted() {
    let mut store = store();
    store.applied(POD, pod("a", "old", 1, "10.0.0.1"));
    store.applied(POD, pod("a", "new", 3, "10.0.0.2"));
    assert!(!store.deleted(POD, &pod("a", "old", 2, "10.0.0.1")));
    assert_eq!(told(&store), ["a [10.0.0.2]"]);
    // also while a list is under way
    store.begin(POD);
    store.listed(POD, pod("a", "new", 3, "10.0.0.2"));
    store.listed(POD, pod("b", "b", 3, "10.0.0.3"));
    store.deleted(POD, &pod("a", "old", 2, "10.0.0.1"));
    store.deleted(POD, &pod("b", "b", 4, "10.0.0.3"));
    assert!(!store.complete(POD));
    assert_eq!(told(&store), ["a [10.0.0.2]"]);
}

#[test]
fn a_broken_object_keeps_its_last_good_version_as_long_as_it_is_the_same() {
    let broken = |uid, version| object("a", uid, version, json!({"spec": 7}));
    let mut store = store();
    assert!(store.applied(POD, broken("1", 1)));
    assert_eq!(told(&store), ["malformed"]);
    assert!(store.applied(POD, pod("a", "1", 2, "10.0.0.1")));
    assert_eq!(told(&store), ["a [10.0.0.1]"]);
    assert!(store.applied(POD, broken("1", 3)));
    assert_eq!(told(&store), ["a [10.0.0.1]", "malformed"]);
    assert!(!store.applied(POD, broken("1", 4)));
    // in a list as well
    store.begin(POD);
    store.listed(POD, broken("1", 4));
    assert!(!store.complete(POD));
    // another object of the name: what the first said does not hold for it
    assert!(store.applied(POD, broken("2", 5)));
    assert_eq!(told(&store), ["malformed"]);
    assert!(store.deleted(POD, &broken("2", 6)));
    assert!(told(&store).is_empty());
}

#[test]
fn what_is_set_aside_goes_with_its_object() {
    let mut store = store();
    store.applied(POD, pod("a", "1", 1, "127.0.0.1"));
    store.applied(POD, pod("b", "2", 2, "127.0.0.1"));
    assert_eq!(told(&store), ["a []", "b []", "invalid_address", "invalid_address"]);
    assert!(store.applied(POD, pod("a", "1", 3, "10.0.0.1")));
    assert_eq!(told(&store), ["a [10.0.0.1]", "b []", "invalid_address"]);
    store.begin(POD);
    assert!(store.complete(POD));
    assert!(told(&store).is_empty());
}

#[test]
fn this_nodes_pods_are_told_with_gate_and_condition() {
    let mut store = store();
    let mut here = pod("a", "1", 1, "10.0.0.1");
    here.0["spec"]["readinessGates"] = json!([{"conditionType": "weft.mesh/Captured"}]);
    assert!(store.applied(POD, here.clone()));
    let mut there = pod("b", "2", 2, "10.0.0.2");
    there.0["spec"]["nodeName"] = json!("n2");
    store.applied(POD, there);
    here.0["status"]["conditions"] = json!([
        {"type": "Ready", "status": "True"},
        {"type": "weft.mesh/Captured", "status": "False", "reason": "NoProgram", "message": "why"},
    ]);
    // our own patch is told to the status writer, and is no change of the model
    assert!(!store.applied(POD, here));
    assert_eq!(store.local().len(), 1);
    let local = &store.local()[&ObjectRef::new("shop", "a")];
    let captured = local.captured.as_ref().unwrap();
    assert!(local.is_gated && local.uid == "1");
    assert_eq!(
        (
            captured.status.as_str(),
            captured.reason.as_str(),
            captured.message.as_str()
        ),
        ("False", "NoProgram", "why")
    );
    store.deleted(POD, &pod("a", "1", 3, "10.0.0.1"));
    assert!(store.local().is_empty());
}

fn policy(uid: &str, version: u64, threshold: i64) -> Raw {
    let spec = json!({"targetRefs": [{"name": "web"}], "circuitBreaker": {"failureThreshold": threshold}});
    object(
        "p",
        uid,
        version,
        json!({"metadata": {"generation": version}, "spec": spec}),
    )
}

#[test]
fn the_last_valid_spec_of_a_policy_holds_on_as_long_as_it_is_the_same_object() {
    const POLICY: Kind = Kind::TrafficPolicy;
    /// What was seen last, whether it holds, and which generation does.
    fn told(store: &Store) -> Option<(i64, bool, Option<i64>)> {
        let policy = store.objects().policies.values().next()?;
        let valid = policy.valid.as_ref().map(|valid| valid.generation);
        Some((policy.generation, policy.invalid.is_none(), valid))
    }
    let mut store = Store::new(NodeName("n1".into()));
    store.begin(POLICY);
    store.listed(POLICY, policy("1", 1, 5));
    assert!(store.complete(POLICY));
    assert_eq!(told(&store), Some((1, true, Some(1))));
    assert!(store.applied(POLICY, policy("1", 2, 0)));
    assert_eq!(told(&store), Some((2, false, Some(1))));
    // a relist, swapped in whole
    store.begin(POLICY);
    store.listed(POLICY, policy("1", 3, -1));
    assert!(store.complete(POLICY));
    assert_eq!(told(&store), Some((3, false, Some(1))));
    // told again, it is no news
    assert!(!store.applied(POLICY, policy("1", 3, -1)));
    assert!(store.applied(POLICY, policy("1", 4, 7)));
    assert_eq!(told(&store), Some((4, true, Some(4))));
    // another object of the name, whose beginning was not seen, in a list and in a watch
    store.begin(POLICY);
    store.listed(POLICY, policy("2", 5, 0));
    assert!(store.complete(POLICY));
    assert_eq!(told(&store), Some((5, false, None)));
    assert!(store.applied(POLICY, policy("2", 6, 8)));
    assert!(store.applied(POLICY, policy("3", 7, 0)));
    assert_eq!(told(&store), Some((7, false, None)));
    assert!(store.applied(POLICY, policy("3", 8, 9)));
    assert!(store.deleted(POLICY, &policy("3", 9, 9)));
    assert_eq!(told(&store), None);
    assert!(store.applied(POLICY, policy("4", 10, 0)));
    assert_eq!(told(&store), Some((10, false, None)));
    // what only an earlier daemon knows
    let mut saved = Store::new(NodeName("n1".into()));
    saved.applied(POLICY, policy("4", 9, 3));
    assert!(store.inherit(saved.objects()));
    assert_eq!(told(&store), Some((10, false, Some(9))));
    assert!(!store.inherit(saved.objects()));
}
