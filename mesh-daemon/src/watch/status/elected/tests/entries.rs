//! What statuses should say: entries that are there already, foreign ones, generations, times, bounds.

use serde_json::{Value, json};

use super::{
    super::{
        super::desired::NOTE_BYTES_MAX,
        entries::{Due, Subject, Wanted, due, merged},
    },
    accepted, content, entry, own, policy_content, route, verdict,
};
use crate::{
    ids::ObjectRef,
    model::{Content, RouteParent},
    watch::{
        claims::{CONTROLLER_NAME, Claim, Claims},
        objects::Kind,
    },
};

const THEN: &str = "2026-01-01T00:00:00Z";
const NOW: &str = "2026-02-02T00:00:00Z";

fn claims(kind: Kind, generation: i64, entries: &[Value]) -> Claims {
    let claim = Claim {
        uid: "u".to_owned(),
        generation,
        entries: entries.to_vec(),
    };
    [((kind, ObjectRef::new("shop", "r")), claim)].into()
}

fn only(due: Due) -> Option<Wanted> {
    assert!(due.len() <= 1, "{due:?}");
    due.into_values().next()
}

/// The list of a status after our write, if there is one.
fn after(content: &Content, generation: i64, list: &[Value]) -> Option<Vec<Value>> {
    let ours: Vec<Value> = list
        .iter()
        .filter(|entry| entry["controllerName"] == CONTROLLER_NAME)
        .cloned()
        .collect();
    let wanted = only(due(content, &claims(Kind::HttpRoute, generation, &ours)))?;
    merged(Subject::Route, list, &wanted, NOW)
}

#[test]
fn what_is_written_is_what_is_compared_with() {
    let good = accepted(true, "It holds.");
    let content = content([("r", verdict(3, &["a", "b"], &good))]);
    let written = after(&content, 3, &[]).unwrap();
    assert_eq!(
        written,
        [
            own("a", 3, "True", "It holds.", NOW),
            own("b", 3, "True", "It holds.", NOW)
        ]
    );
    // nothing more is due, in whatever order they stand
    let turned: Vec<Value> = written.into_iter().rev().collect();
    assert_eq!(due(&content, &claims(Kind::HttpRoute, 3, &turned)), Due::new());
}

#[test]
fn every_difference_is_written_and_only_a_new_status_has_a_new_time() {
    let bad = accepted(false, "It does not.");
    for (shown, status_changes) in [
        (own("a", 2, "False", "It does not.", THEN), false),
        (own("a", 3, "False", "It did not.", THEN), false),
        (own("a", 3, "True", "It does not.", THEN), true),
        (
            json!({"parentRef": {"group": "", "kind": "Service", "name": "a"}, "controllerName": CONTROLLER_NAME}),
            true,
        ),
    ] {
        let content = content([("r", verdict(3, &["a"], &bad))]);
        let written = after(&content, 3, std::slice::from_ref(&shown)).unwrap();
        let since = if status_changes { NOW } else { THEN };
        assert_eq!(written, [own("a", 3, "False", "It does not.", since)], "{shown}");
    }
}

#[test]
fn a_condition_more_or_less_is_a_difference() {
    let mut both = verdict(3, &["a"], &accepted(true, "It holds."));
    both.parents[0].1.push(crate::model::Condition {
        kind: "ResolvedRefs",
        is_true: true,
        reason: "ResolvedRefs",
        message: "All are there.".to_owned(),
    });
    let one = own("a", 3, "True", "It holds.", THEN);
    let written = after(&content([("r", both)]), 3, std::slice::from_ref(&one)).unwrap();
    let times: Vec<&Value> = written[0]["conditions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|c| &c["lastTransitionTime"])
        .collect();
    assert_eq!(times, [THEN, NOW]);
    let fewer = content([("r", verdict(3, &["a"], &accepted(true, "It holds.")))]);
    assert_eq!(after(&fewer, 3, &written), Some(vec![one]));
}

#[test]
fn foreign_entries_stay_as_and_where_they_stand() {
    let foreign = json!({
        "parentRef": {"name": "gateway", "odd": [1, 2.5, null]}, "controllerName": "example.net/other",
        "conditions": [{"type": "Odd", "extra": {"b": 1, "a": 2}}], "more": true,
    });
    let same_parent = entry("example.net/third", "a", 1, "False", "No.", THEN);
    let list = [
        foreign.clone(),
        own("gone", 3, "True", "It holds.", THEN),
        same_parent.clone(),
        own("a", 2, "True", "It holds.", THEN),
    ];
    let content = content([("r", verdict(3, &["b", "a"], &accepted(true, "It holds.")))]);
    let expected = [
        foreign,
        same_parent,
        own("a", 3, "True", "It holds.", THEN),
        own("b", 3, "True", "It holds.", NOW),
    ];
    assert_eq!(after(&content, 3, &list).unwrap(), expected);
}

#[test]
fn what_is_no_longer_ours_loses_our_entries_and_keeps_the_others() {
    let foreign = entry("example.net/other", "a", 1, "False", "No.", THEN);
    let list = [own("a", 3, "True", "It holds.", THEN), foreign.clone()];
    assert_eq!(after(&Content::default(), 4, &list), Some(vec![foreign.clone()]));
    assert_eq!(
        after(&Content::default(), 4, &[foreign]),
        None,
        "nothing of ours is there"
    );
    let no_parents = content([("r", verdict(4, &[], &accepted(true, "")))]);
    assert_eq!(after(&no_parents, 4, &list).unwrap().len(), 1);
}

#[test]
fn another_generation_than_the_apis_is_waited_for() {
    let content = content([("r", verdict(3, &["a"], &accepted(true, "It holds.")))]);
    for (generation, is_due) in [(2, false), (3, true), (4, false)] {
        let found = only(due(&content, &claims(Kind::HttpRoute, generation, &[])));
        assert_eq!(found.is_some(), is_due, "the API has generation {generation}");
    }
    assert_eq!(due(&content, &Claims::new()), Due::new(), "the API has no such route");
}

#[test]
fn a_parent_is_repeated_as_it_is_written_and_never_becomes_a_gateway() {
    let full = RouteParent {
        group: Some(String::new()),
        kind: Some("Service".to_owned()),
        namespace: Some("other".to_owned()),
        name: "a".to_owned(),
        section_name: Some("http".to_owned()),
        port: Some(8080),
    };
    let bare = RouteParent {
        group: None,
        kind: None,
        namespace: None,
        section_name: None,
        port: None,
        ..full.clone()
    };
    for (parent, expected) in [
        (
            full,
            json!({"group": "", "kind": "Service", "namespace": "other", "name": "a", "sectionName": "http", "port": 8080}),
        ),
        (bare, json!({"group": "", "kind": "Service", "name": "a"})),
    ] {
        let mut verdict = verdict(1, &["a"], &accepted(true, "It holds."));
        verdict.parents[0].0 = parent;
        let content = content([("r", verdict)]);
        let written = after(&content, 1, &[]).unwrap();
        assert_eq!(written[0]["parentRef"], expected);
        assert_eq!(after(&content, 1, &written), None);
    }
}

#[test]
fn parents_that_differ_by_a_port_have_entries_of_their_own_and_equal_ones_one() {
    let mut verdict = verdict(1, &["a", "a", "a"], &accepted(true, "It holds."));
    verdict.parents[1].0.port = Some(80);
    let written = after(&content([("r", verdict)]), 1, &[]).unwrap();
    let ports: Vec<Option<u64>> = written
        .iter()
        .map(|entry| entry["parentRef"]["port"].as_u64())
        .collect();
    assert_eq!(ports, [None, Some(80)]);
}

#[test]
fn a_policys_ancestors_are_its_targets() {
    let content = policy_content("r", 5, &["a", "b"], &accepted(false, "No."));
    let wanted = only(due(&content, &claims(Kind::TrafficPolicy, 5, &[]))).unwrap();
    let written = merged(Subject::Policy, &[], &wanted, NOW).unwrap();
    assert_eq!(
        written[1],
        json!({
            "ancestorRef": {"group": "", "kind": "Service", "namespace": "shop", "name": "b"},
            "controllerName": CONTROLLER_NAME,
            "conditions": own("b", 5, "False", "No.", NOW)["conditions"],
        })
    );
    assert_eq!(due(&content, &claims(Kind::TrafficPolicy, 5, &written)), Due::new());
}

#[test]
fn lists_never_grow_beyond_what_the_api_takes() {
    for (foreign, ours) in [(0, 32), (30, 2), (32, 0), (40, 0)] {
        let others: Vec<Value> = (0..foreign)
            .map(|index| entry("example.net/other", &format!("g{index}"), 1, "True", "", THEN))
            .collect();
        let mut verdict = verdict(1, &[], &accepted(true, ""));
        for index in 0..40 {
            verdict
                .parents
                .push((super::parent(&format!("s{index}")), vec![accepted(true, "It holds.")]));
        }
        let written = after(&content([("r", verdict)]), 1, &others).unwrap_or(others.clone());
        assert_eq!(written.len(), foreign + ours);
        assert_eq!(written[..foreign], others);
    }
}

#[test]
fn a_policy_has_no_more_ancestors_than_the_api_takes() {
    const NAMES: [&str; 20] = [
        "a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l", "m", "n", "o", "p", "q", "r", "s", "t",
    ];
    let content = policy_content("r", 5, &NAMES, &accepted(true, "It holds."));
    for (foreign, ours) in [(0, 16), (15, 1), (16, 0), (17, 0)] {
        let others: Vec<Value> = (0..foreign)
            .map(|index| json!({"ancestorRef": {"name": format!("g{index}")}, "controllerName": "example.net/other"}))
            .collect();
        let wanted = only(due(&content, &claims(Kind::TrafficPolicy, 5, &[]))).unwrap();
        let written = merged(Subject::Policy, &others, &wanted, NOW).unwrap_or(others.clone());
        assert_eq!(written.len(), foreign + ours);
        assert_eq!(written[..foreign], others);
    }
}

#[test]
fn a_message_that_is_too_long_is_cut_and_counts_as_written() {
    let long = "é".repeat(NOTE_BYTES_MAX);
    let content = content([("r", verdict(1, &["a"], &accepted(true, &long)))]);
    let written = after(&content, 1, &[]).unwrap();
    let message = written[0]["conditions"][0]["message"].as_str().unwrap();
    assert!(message.len() <= NOTE_BYTES_MAX && long.starts_with(message));
    assert_eq!(after(&content, 1, &written), None);
}

#[test]
fn the_key_of_what_is_due_is_the_object() {
    let content = content([("r", verdict(1, &["a"], &accepted(true, "")))]);
    let due = due(&content, &claims(Kind::HttpRoute, 1, &[]));
    assert_eq!(due.into_keys().collect::<Vec<_>>(), [route("r")]);
}
