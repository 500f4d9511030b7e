//! Which policy holds for which Service, and what each is told.

use core::time::Duration;
use std::sync::Arc;

use super::{
    super::{
        Content, Family, Inputs, Limits, PolicySpec, RequestSettings, ServiceKind, TimeoutPolicy, TrafficPolicy,
        Upstream, ValidPolicy, build, build_after, dump,
    },
    object, ready, service, shop, slice,
};

/// A spec that is known by its number.
fn spec(number: u32) -> PolicySpec {
    PolicySpec {
        limits: Some(Limits {
            max_requests: Some(number),
            ..Limits::default()
        }),
        ..PolicySpec::default()
    }
}

/// A valid policy: its spec's number, its generation and its age are one.
fn policy(number: u32, targets: &[&str]) -> TrafficPolicy {
    let targets: Vec<_> = targets.iter().map(|&target| target.to_owned()).collect();
    TrafficPolicy {
        generation: number.into(),
        created: Some(number.into()),
        targets: targets.clone(),
        invalid: None,
        valid: Some(ValidPolicy {
            generation: number.into(),
            targets,
            spec: spec(number),
        }),
    }
}

/// Its next spec is invalid, with other targets.
fn broken(policy: TrafficPolicy, targets: &[&str]) -> TrafficPolicy {
    TrafficPolicy {
        generation: policy.generation + 1,
        targets: targets.iter().map(|&target| target.to_owned()).collect(),
        invalid: Some("spec.limits.maxRequests: 0 is below 1.".to_owned()),
        ..policy
    }
}

/// The Services `shop/web` and `shop/cart`, each with two ports, two families and an endpoint; `shop/bare` is headless, `shop/out` a name outside.
fn world(policies: &[(&str, TrafficPolicy)]) -> Inputs {
    let mut inputs = shop();
    for (number, name) in ["web", "cart"].into_iter().enumerate() {
        let addresses = [format!("10.96.0.{}", number + 1), format!("fd00:96::{}", number + 1)];
        let addresses = [addresses[0].as_str(), addresses[1].as_str()];
        inputs.service(&format!("shop/{name}"), service(&addresses, &[("a", 80), ("b", 81)]));
        let endpoint = ready(&format!("10.0.0.{}", number + 1));
        inputs.slice(
            &format!("shop/{name}-1"),
            slice(name, &[("a", 8080), ("b", 8081)], &[endpoint]),
        );
    }
    for (name, kind) in [("bare", ServiceKind::Headless), ("out", ServiceKind::ExternalName)] {
        let mut service = service(&[], &[("a", 80)]);
        service.kind = kind;
        inputs.service(&format!("shop/{name}"), service);
    }
    for (name, policy) in policies {
        inputs.policies.insert(object(name), policy.clone());
    }
    inputs
}

fn upstreams<'a>(content: &'a Content, service: &str) -> Vec<&'a Arc<Upstream>> {
    let service = object(service);
    let upstreams = content.upstreams.values();
    upstreams.filter(|upstream| upstream.service == service).collect()
}

/// The policy that holds at every address and port of a Service, as `name@generation`, or `-`.
fn holds(content: &Content, service: &str) -> String {
    let mut names = upstreams(content, service).into_iter().map(|upstream| {
        upstream.policy.as_ref().map_or_else(
            || "-".to_owned(),
            |policy| {
                let number = policy.spec.limits.and_then(|limits| limits.max_requests);
                assert_eq!(number.map(i64::from), Some(policy.generation), "a policy holds whole");
                format!("{}@{}", policy.name, policy.generation)
            },
        )
    });
    let name = names.next().unwrap();
    assert!(names.all(|other| other == name), "all ports and families alike");
    name
}

/// What a policy is told: `target status reason`, and the message.
fn told(content: &Content, policy: &str) -> Vec<(String, String)> {
    let verdict = &content.policy_verdicts[&object(policy)];
    let line = |(target, conditions): &(_, Vec<super::super::Condition>)| {
        let [condition] = &conditions[..] else {
            panic!("one condition: {conditions:?}")
        };
        let line = format!("{target} {}={} {}", condition.kind, condition.is_true, condition.reason);
        (line, condition.message.clone())
    };
    verdict.ancestors.iter().map(line).collect()
}

#[test]
fn of_two_for_one_service_the_older_holds_whole() {
    let aged = |number, created| TrafficPolicy {
        created,
        ..policy(number, &["web"])
    };
    for (a, b, expected) in [
        (Some(1), Some(2), "shop/a@1"),
        (Some(2), Some(1), "shop/b@2"),
        (Some(1), Some(1), "shop/a@1"),
        (None, Some(9), "shop/b@2"),
        (Some(9), None, "shop/a@1"),
        (None, None, "shop/a@1"),
        (Some(-5), Some(0), "shop/a@1"),
    ] {
        let content = build(&world(&[("shop/a", aged(1, a)), ("shop/b", aged(2, b))]));
        assert_eq!(holds(&content, "shop/web"), expected, "{a:?} and {b:?}");
        assert_eq!(holds(&content, "shop/cart"), "-");
    }
}

#[test]
fn the_younger_is_told_and_holds_as_soon_as_the_older_is_gone() {
    let policies = [
        ("shop/old", policy(1, &["web"])),
        ("shop/new", policy(2, &["cart", "web"])),
        (
            "shop/twin",
            TrafficPolicy {
                created: Some(1),
                ..policy(3, &["web"])
            },
        ),
    ];
    let mut inputs = world(&policies);
    let content = build(&inputs);
    assert_eq!(holds(&content, "shop/web"), "shop/old@1");
    assert_eq!(holds(&content, "shop/cart"), "shop/new@2", "a conflict is one target's");
    let [cart, web] = &told(&content, "shop/new")[..] else {
        panic!("two targets")
    };
    assert_eq!(cart.0, "shop/cart Accepted=true Accepted");
    assert_eq!(web.0, "shop/web Accepted=false Conflicted");
    assert_eq!(
        web.1,
        "spec.targetRefs: for Service shop/web TrafficPolicy shop/old holds, which is older"
    );
    let twin = &told(&content, "shop/twin")[0];
    assert!(twin.1.ends_with("which is as old and comes first by name"), "{twin:?}");
    assert_eq!(told(&content, "shop/old")[0].0, "shop/web Accepted=true Accepted");

    for (gone, next) in [
        ("shop/old", "shop/twin@3"),
        ("shop/twin", "shop/new@2"),
        ("shop/new", "-"),
    ] {
        inputs.policies.remove(&object(gone));
        let after = build_after(&content, &inputs);
        assert_eq!(after, build(&inputs));
        assert_eq!(holds(&after, "shop/web"), next, "{gone} is gone");
        assert!(!after.policy_verdicts.contains_key(&object(gone)));
    }
}

#[test]
fn an_invalid_spec_does_not_replace_the_last_valid_one() {
    let fixed = policy(1, &["web"]);
    let content = build(&world(&[
        ("shop/a", broken(fixed, &["web"])),
        ("shop/b", policy(2, &["web"])),
    ]));
    assert_eq!(holds(&content, "shop/web"), "shop/a@1", "it keeps its place, too");
    assert_eq!(content.policy_verdicts[&object("shop/a")].generation, 2);
    let expected = (
        "shop/web Accepted=false Invalid".to_owned(),
        "spec.limits.maxRequests: 0 is below 1; the last valid spec, of generation 1, goes on serving".to_owned(),
    );
    assert_eq!(told(&content, "shop/a"), [expected]);
    assert_eq!(told(&content, "shop/b")[0].0, "shop/web Accepted=false Conflicted");
}

#[test]
fn a_policy_of_which_no_valid_spec_was_seen_is_as_if_absent() {
    let absent = TrafficPolicy {
        valid: None,
        ..broken(policy(1, &["web"]), &["web"])
    };
    let content = build(&world(&[("shop/a", absent), ("shop/b", policy(2, &["web"]))]));
    assert_eq!(holds(&content, "shop/web"), "shop/b@2");
    assert_eq!(told(&content, "shop/b")[0].0, "shop/web Accepted=true Accepted");
    let [(line, message)] = &told(&content, "shop/a")[..] else {
        panic!("one target")
    };
    assert_eq!(line, "shop/web Accepted=false Invalid");
    assert!(message.ends_with("; no valid spec was seen before, so the policy does not hold"));
}

#[test]
fn targets_of_an_invalid_spec_are_told_and_those_of_the_valid_one_are_served() {
    let moved = broken(policy(1, &["web", "ghost"]), &["cart"]);
    let content = build(&world(&[("shop/a", moved), ("shop/b", policy(2, &["cart"]))]));
    assert_eq!(holds(&content, "shop/web"), "shop/a@1");
    assert_eq!(holds(&content, "shop/cart"), "shop/b@2");
    let told = told(&content, "shop/a");
    let lines: Vec<_> = told.iter().map(|(line, _)| line.as_str()).collect();
    let expected = [
        "shop/cart Accepted=false Invalid",
        "shop/web Accepted=false Invalid",
        "shop/ghost Accepted=false Invalid",
    ];
    assert_eq!(lines, expected);
    for ((_, message), end) in told.iter().zip([
        "goes on serving, but Service shop/cart is no target of it",
        "generation 1, goes on serving",
        "goes on serving, but there is no Service shop/ghost",
    ]) {
        assert!(message.ends_with(end), "{message}");
    }
}

#[test]
fn a_target_must_be_a_service_with_endpoints() {
    let content = build(&world(&[(
        "shop/a",
        policy(1, &["ghost", "out", "bare", "web", "web"]),
    )]));
    let expected = [
        (
            "shop/ghost Accepted=false TargetNotFound",
            "spec.targetRefs: there is no Service shop/ghost",
        ),
        (
            "shop/out Accepted=false TargetNotFound",
            "spec.targetRefs: Service shop/out is of type ExternalName and has no endpoints that a policy could hold for",
        ),
        ("shop/bare Accepted=true Accepted", "It holds for Service shop/bare"),
        ("shop/web Accepted=true Accepted", "It holds for Service shop/web"),
    ];
    assert_eq!(
        told(&content, "shop/a"),
        expected.map(|(line, message)| (line.to_owned(), message.to_owned()))
    );
}

#[test]
fn a_policy_holds_in_its_own_namespace_only() {
    let mut inputs = world(&[("blog/a", policy(1, &["web"]))]);
    let content = build(&inputs);
    assert_eq!(holds(&content, "shop/web"), "-");
    assert_eq!(told(&content, "blog/a")[0].0, "blog/web Accepted=false TargetNotFound");
    inputs.service("blog/web", service(&["10.96.0.9"], &[("a", 80)]));
    let content = build(&inputs);
    assert_eq!(holds(&content, "blog/web"), "blog/a@1");
    assert_eq!(holds(&content, "shop/web"), "-");
}

#[test]
fn no_more_targets_are_told_than_a_status_has_room_for() {
    let names: Vec<_> = (0..40).map(|number| format!("s{number:02}")).collect();
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    let content = build(&world(&[("shop/a", broken(policy(1, &names[20..]), &names[..10]))]));
    let told = told(&content, "shop/a");
    assert_eq!(told.len(), 16);
    assert!(told[0].0.starts_with("shop/s00 ") && told[15].0.starts_with("shop/s25 "));
}

#[test]
fn requests_that_meet_no_route_have_the_policys_timeouts() {
    let mut timed = policy(1, &["web"]);
    let time = Duration::from_millis(1500);
    timed.valid.as_mut().unwrap().spec.timeout = Some(TimeoutPolicy {
        request: Some(time),
        backend_request: None,
    });
    let content = build(&world(&[("shop/a", timed)]));
    let expected = RequestSettings {
        timeout: Some(time),
        ..RequestSettings::default()
    };
    for upstream in upstreams(&content, "shop/web") {
        assert_eq!(*upstream.settings, expected);
    }
    for upstream in upstreams(&content, "shop/cart") {
        assert_eq!(*upstream.settings, RequestSettings::default());
    }
}

#[test]
fn what_did_not_change_is_shared_within_a_content_and_with_the_last_one() {
    let mut timed = policy(1, &["web"]);
    timed.valid.as_mut().unwrap().spec.timeout = Some(TimeoutPolicy {
        request: Some(Duration::from_secs(1)),
        backend_request: None,
    });
    let mut inputs = world(&[("shop/a", timed)]);
    let earlier = build(&inputs);
    inputs.endpoint_slices.clear();
    let later = build_after(&earlier, &inputs);
    assert_eq!(later, build(&inputs));
    for service in ["shop/web", "shop/cart"] {
        let [old, new] = [&earlier, &later].map(|content| upstreams(content, service));
        for upstream in old.iter().chain(&new) {
            assert!(Arc::ptr_eq(&upstream.settings, &old[0].settings), "{service}");
            let both = upstream.policy.as_ref().zip(old[0].policy.as_ref());
            assert!(both.is_none_or(|(one, other)| Arc::ptr_eq(one, other)), "{service}");
        }
        let is_v4 = |upstream: &&&Arc<Upstream>| upstream.family == Family::V4;
        assert!(!Arc::ptr_eq(
            old.iter().find(is_v4).unwrap(),
            new.iter().find(is_v4).unwrap()
        ));
    }
    // limits alone leave requests as they are
    let plain = build(&world(&[("shop/a", policy(1, &["web"]))]));
    let settings = ["shop/web", "shop/cart"].map(|service| &upstreams(&plain, service)[0].settings);
    assert!(Arc::ptr_eq(settings[0], settings[1]));
}

#[test]
fn a_changed_policy_is_not_the_last_one() {
    let mut inputs = world(&[("shop/a", policy(1, &["web"]))]);
    let earlier = build(&inputs);
    inputs.policies.insert(object("shop/a"), policy(2, &["web"]));
    let later = build_after(&earlier, &inputs);
    assert_eq!(later, build(&inputs));
    assert_eq!(holds(&later, "shop/web"), "shop/a@2");
}

#[test]
fn the_dump_tells_policies_where_there_are_any() {
    let content = build(&world(&[
        ("shop/a", policy(1, &["web"])),
        ("shop/b", policy(2, &["web"])),
    ]));
    let dumped = dump(&content);
    let lines: Vec<_> = dumped.lines().filter(|line| line.contains("policy")).collect();
    assert_eq!(lines.len(), 4 + 1 + 2, "{dumped}");
    for begin in [
        "upstream 10.96.0.1:80 shop/web protocol=Detect policy=shop/a",
        "policy shop/a generation=1 PolicySpec {",
        "policy-status shop/a generation=1 target=shop/web Accepted=true Accepted: It holds",
        "policy-status shop/b generation=2 target=shop/web Accepted=false Conflicted: spec.targetRefs: ",
    ] {
        let count = lines.iter().filter(|line| line.starts_with(begin)).count();
        assert_eq!(count, 1, "{begin} in {dumped}");
    }
    assert!(!dump(&build(&world(&[]))).contains("policy"));
}
