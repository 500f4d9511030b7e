//! What regular expressions may cost: each by itself, those of a route, those of all routes, and those that one request is tried against.

use super::{
    super::super::{Action, Content, Inputs, RouteMatch, RuleFailure, build, build_after},
    any, find, met, prefix, regex, route, rule, three,
};

/// Would need an automaton of gigabytes.
const TOO_LARGE: &str = "(?:(?:[ab]{1,40}){1,40})*c";

/// A pattern that takes some 100 KiB and matches no value of these tests.
fn large(number: usize) -> String {
    let words: Vec<String> = (0..200).map(|word| format!("{number}-{word}-[a-z]+")).collect();
    words.join("|")
}

fn with(rules: &[Vec<RouteMatch>]) -> Inputs {
    let rules: Vec<_> = rules.iter().map(|matches| rule(matches)).collect();
    let mut inputs = three();
    inputs.http_route("shop/a", route(&rules));
    inputs
}

fn said(content: &Content, name: &str) -> String {
    let (_, verdict) = content
        .route_verdicts
        .iter()
        .find(|(route, _)| route.to_string() == name)
        .unwrap();
    format!("{:?}", verdict.parents)
}

fn action(content: &Content, request: &str, headers: &[(&str, &str)]) -> String {
    find(content, None, request, headers, |matched| match &matched.rule.action {
        Action::Fail(RuleFailure::Unsupported) => "fails".to_owned(),
        _ => "serves".to_owned(),
    })
}

#[test]
fn a_pattern_that_is_too_large_makes_its_rule_one_that_is_not_supported() {
    let content = build(&with(&[
        vec![prefix("/a"), any().header_regex("x-tag", TOO_LARGE)],
        vec![any()],
    ]));
    let said = said(&content, "shop/a");
    for part in [
        "PartiallyInvalid",
        "UnsupportedValue",
        "spec.rules[0].matches[1].headers",
        "of `x-tag`",
        "compiled it takes more than the 262144 bytes that are supported",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert_eq!(action(&content, "GET /a", &[]), "fails");
    assert_eq!(action(&content, "GET /b", &[("x-tag", "abc")]), "serves");
}

#[test]
fn rules_of_a_route_beyond_what_its_patterns_may_take_are_not_supported() {
    let rules = (0..40).map(|number| vec![prefix(&format!("/{number}")), regex(&large(number))]);
    let inputs = with(&rules.collect::<Vec<_>>());
    let content = build(&inputs);
    let said = said(&content, "shop/a");
    assert!(
        said.contains("the regular expressions of this route take more than the 2097152 bytes"),
        "{said}"
    );
    assert_eq!(action(&content, "GET /0", &[]), "serves");
    assert_eq!(action(&content, "GET /39", &[]), "fails");
    assert_eq!(build_after(&content, &inputs), content);
}

#[test]
fn the_oldest_routes_have_the_room_for_patterns() {
    // more than all routes may take together, and the last by name is the oldest
    let mut inputs = three();
    for number in 0..30 {
        let patterns: Vec<_> = (0..16).map(|at| regex(&large(number * 16 + at))).collect();
        let mut one = route(&[rule(&patterns), rule(&[any()])]);
        one.created = Some(100 - i64::try_from(number).unwrap());
        inputs.http_route(&format!("shop/r{number:02}"), one);
    }
    let content = build(&inputs);
    assert!(!said(&content, "shop/r29").contains("regular expressions"));
    assert!(said(&content, "shop/r00").contains("the regular expressions of all routes take more"));
    let mut fewer = inputs.clone();
    fewer.routes.pop_last();
    assert_eq!(
        build_after(&build(&fewer), &inputs),
        content,
        "whatever was there before"
    );
}

#[test]
fn a_request_that_patterns_would_read_for_too_long_is_answered_by_the_first_of_their_rules() {
    let tag = "ab".repeat(100_000);
    let tags = |number: usize| any().header_regex("x-tag", &format!("[ab]*{number}"));
    let mut rules: Vec<_> = (0..20).map(|number| vec![tags(number)]).collect();
    rules.push(vec![any()]);
    let content = build(&with(&rules));
    for headers in [&[][..], &[("x-tag", "ab")], &[("x-tag", "abc")]] {
        assert_eq!(met(&content, None, "GET /", headers), "shop/a[20]", "{headers:?}");
    }
    assert_eq!(action(&content, "GET /", &[("x-tag", "ab3")]), "serves");
    // 1 MiB is read with the sixth: no later rule catches it
    assert_eq!(met(&content, None, "GET /", &[("x-tag", &tag)]), "shop/a[6]");
    assert_eq!(action(&content, "GET /", &[("x-tag", &tag)]), "fails");
}

#[test]
fn what_else_a_rule_asks_for_is_still_looked_at_when_patterns_are_not() {
    let tag = "ab".repeat(600_000);
    let tags = |number: usize| any().header_regex("x-tag", &format!("[ab]*{number}"));
    let content = build(&with(&[
        vec![tags(1).method("GET")],
        vec![tags(2).header("x-other", "1")],
        vec![any()],
    ]));
    let without = [("x-tag", tag.as_str())];
    assert_eq!(met(&content, None, "GET /", &without), "shop/a[2]");
    assert_eq!(action(&content, "GET /", &without), "serves");
    let with = [("x-tag", tag.as_str()), ("x-other", "1")];
    assert_eq!(met(&content, None, "GET /", &with), "shop/a[1]");
    assert_eq!(action(&content, "GET /", &with), "fails");
}
