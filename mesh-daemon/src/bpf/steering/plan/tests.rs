//! Plans for tables that are empty, right, half right, and somebody else's.

use std::path::PathBuf;

use super::*;
use crate::config::AttachMode;

const LOOPBACK: u32 = 1;

fn settings() -> KernelSettings {
    KernelSettings {
        pin_dir: PathBuf::new(),
        attach: AttachMode::Auto,
        marks: mesh_common::settings::Settings::DEFAULT_MARKS,
        route_table: 1000,
        rule_preference: 8,
    }
}

/// (rules deleted, routes deleted, routes added, rules added)
fn check(rules: &[RuleMessage], routes: &[RouteMessage], expected: (usize, usize, usize, usize), case: &str) {
    let plan = installation(&settings(), &IpVersion::V4, LOOPBACK, rules, routes).unwrap();
    let got = (
        plan.delete_rules.len(),
        plan.delete_routes.len(),
        plan.add_routes.len(),
        plan.add_rules.len(),
    );
    assert_eq!(got, expected, "{case}");
    assert_eq!(plan.is_empty(), expected == (0, 0, 0, 0), "{case}");
}

fn ours() -> (Vec<RuleMessage>, Vec<RouteMessage>) {
    (
        wanted_rules(&settings(), &IpVersion::V4),
        vec![wanted_route(&settings(), &IpVersion::V4, LOOPBACK)],
    )
}

fn with(rule: &RuleMessage, change: impl FnOnce(&mut RuleMessage)) -> RuleMessage {
    let mut rule = rule.clone();
    change(&mut rule);
    rule
}

fn foreign(preference: u32) -> RuleMessage {
    let mut rule = RuleMessage::default();
    rule.header.action = RuleAction::ToTable;
    rule.header.src_len = 8;
    rule.attributes.push(RuleAttribute::Source([10, 0, 0, 0].into()));
    rule.attributes.push(RuleAttribute::Priority(preference));
    rule.attributes.push(RuleAttribute::Table(5));
    rule
}

#[test]
fn one_of_each_is_what_remains() {
    let (rules, routes) = ours();
    check(&[], &[], (0, 0, 1, 3), "nothing there");
    check(&rules, &routes, (0, 0, 0, 0), "all there");
    check(&rules, &[], (0, 0, 1, 0), "the route is gone");
    check(&rules[1..], &routes, (0, 0, 0, 1), "a rule is gone");
    check(
        &[&rules[..], &rules[..1]].concat(),
        &routes,
        (1, 0, 0, 0),
        "a rule twice",
    );
    let old_mark = with(&rules[2], |rule| {
        rule.attributes
            .retain(|attribute| !matches!(attribute, RuleAttribute::FwMark(_)));
    });
    check(
        &[rules[0].clone(), rules[1].clone(), old_mark],
        &routes,
        (1, 0, 0, 1),
        "left by a daemon with another mark",
    );
    let old_table = with(&rules[2], |rule| rule.attributes.push(RuleAttribute::Table(7)));
    check(
        &[rules[0].clone(), rules[1].clone(), old_table],
        &routes,
        (1, 0, 0, 1),
        "left by a daemon with another table",
    );
    let mut stray = routes[0].clone();
    stray.header.destination_prefix_length = 8;
    check(&rules, &[stray], (0, 1, 1, 0), "an own route to elsewhere");
    check(
        &[&rules[..], &[foreign(7), foreign(11)]].concat(),
        &routes,
        (0, 0, 0, 0),
        "somebody else's rules beside ours",
    );
}

#[test]
fn somebody_elses_rule_in_our_place_is_named() {
    for preference in [8, 9, 10] {
        let refused = installation(&settings(), &IpVersion::V4, LOOPBACK, &[foreign(preference)], &[]);
        assert_eq!(
            refused,
            Err(Foreign::Rule(format!("{preference}: from 10.0.0.0/8 lookup 5")))
        );
    }
    let unmarked = with(&ours().0[1], |rule| {
        rule.attributes
            .retain(|attribute| !matches!(attribute, RuleAttribute::Protocol(_)));
    });
    let refused = installation(&settings(), &IpVersion::V4, LOOPBACK, &[unmarked], &[]);
    assert_eq!(
        refused,
        Err(Foreign::Rule(
            "8: from all fwmark 0x1000/0x3000 iif lo goto 10".to_owned()
        ))
    );
}

#[test]
fn somebody_elses_route_in_our_table_is_named() {
    let mut route = ours().1[0].clone();
    route.header.protocol = RouteProtocol::Boot;
    let refused = installation(&settings(), &IpVersion::V4, LOOPBACK, &[], &[route.clone()]);
    assert_eq!(refused, Err(Foreign::Route("local default".to_owned())));
    route.header.kind = RouteType::Unicast;
    route.header.destination_prefix_length = 8;
    route
        .attributes
        .push(RouteAttribute::Destination(RouteAddress::Inet([10, 0, 0, 0].into())));
    let refused = installation(&settings(), &IpVersion::V4, LOOPBACK, &[], &[route]);
    assert_eq!(refused, Err(Foreign::Route("10.0.0.0/8".to_owned())));
}

#[test]
fn removal_takes_only_what_is_ours_wherever_it_stands() {
    let (mut rules, routes) = ours();
    let elsewhere = with(&rules[0], |rule| rule.attributes[0] = RuleAttribute::Priority(100));
    rules.push(elsewhere);
    let present = [&rules[..], &[foreign(7), foreign(9)]].concat();
    assert_eq!(own_tables(&present), [1000].into());
    let plan = removal(&present, &routes);
    assert_eq!(plan.delete_rules, rules);
    assert_eq!(plan.delete_routes, routes);
    let nothing = removal(&[foreign(8)], &[]);
    assert!(nothing.is_empty());
}

#[test]
fn a_route_says_its_table_in_the_attribute_if_it_is_large() {
    let (_, routes) = ours();
    assert_eq!(table_of(&routes[0]), 1000);
    let mut small = RouteMessage::default();
    small.header.table = 254;
    assert_eq!(table_of(&small), 254);
}
