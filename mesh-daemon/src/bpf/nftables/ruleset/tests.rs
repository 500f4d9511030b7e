//! The table against payloads such as the kernel shows, whole and damaged.

use super::*;

const MARKS: Marks = Marks::DEFAULT_MARKS;

/// A payload as the kernel shows it: `struct nfgenmsg`, then attributes.
fn shown(attributes: &Attributes) -> Vec<u8> {
    [&[FAMILY, 0, 0, 0], attributes.as_bytes()].concat()
}

fn rules(chains: &[Chain]) -> Vec<Vec<u8>> {
    chains.iter().map(|chain| shown(&chain.rule_attributes())).collect()
}

fn check_rules(payloads: &[Vec<u8>], expected: bool, case: &str) {
    let payloads: Vec<_> = payloads.iter().map(Vec::as_slice).collect();
    assert_eq!(rules_match(&payloads, &chains(&MARKS)), expected, "{case}");
}

#[test]
fn rules_are_compared_by_chain_count_and_marks() {
    let [prerouting, output] = chains(&MARKS);
    let whole = rules(&chains(&MARKS));
    check_rules(&whole, true, "as written");
    check_rules(&[whole[1].clone(), whole[0].clone()], true, "in another order");
    check_rules(&[], false, "flushed");
    check_rules(&whole[..1], false, "one deleted");
    check_rules(&[whole[0].clone(), whole[0].clone()], false, "one doubled, one deleted");
    check_rules(&[whole.clone(), vec![whole[0].clone()]].concat(), false, "one doubled");
    check_rules(
        &rules(&chains(&Marks {
            mark_steer: 0x2000,
            ..MARKS
        })),
        false,
        "another mark",
    );
    check_rules(
        &rules(&chains(&Marks {
            mark_mask: 0xf000,
            ..MARKS
        })),
        false,
        "another mask",
    );
    let swapped = [
        Chain {
            rule: output.rule.clone(),
            ..prerouting.clone()
        },
        Chain {
            rule: prerouting.rule,
            ..output
        },
    ];
    check_rules(&rules(&swapped), false, "rules in each other's chain");
    let foreign = shown(
        &Attributes::default()
            .text(RULE_TABLE, "filter")
            .text(RULE_CHAIN, "input"),
    );
    check_rules(
        &[whole, vec![foreign]].concat(),
        true,
        "a rule of somebody else's table",
    );
}

#[test]
fn a_rule_with_more_or_other_expressions_is_not_ours() {
    let [prerouting, output] = chains(&MARKS);
    let extra = prerouting
        .rule
        .clone()
        .nested(LIST_ELEMENT, &Attributes::default().text(EXPRESSION_NAME, "counter"));
    let longer = Chain {
        rule: extra,
        ..prerouting
    };
    check_rules(&rules(&[longer, output]), false, "an expression more");
}

#[test]
fn what_a_later_kernel_adds_is_no_difference() {
    let wanted: Vec<Expression<'_>> = vec![(b"cmp", BTreeMap::from([(1, &[1][..])]))];
    let more: Vec<Expression<'_>> = vec![(b"cmp", BTreeMap::from([(1, &[1][..]), (9, &[0][..])]))];
    assert!(expressions_match(&more, &wanted));
    assert!(!expressions_match(&wanted, &more));
}

#[test]
fn chains_are_compared_by_hook_type_priority_and_policy() {
    let [prerouting, output] = chains(&MARKS);
    assert!(prerouting.matches(&shown(&prerouting.attributes())));
    assert!(!prerouting.matches(&shown(&output.attributes())));
    assert!(!prerouting.matches(&[]));
    let moved = Chain {
        hook: HOOK_OUTPUT,
        ..prerouting.clone()
    };
    assert!(!prerouting.matches(&shown(&moved.attributes())));
    let regular = Attributes::default()
        .text(CHAIN_TABLE, TABLE)
        .text(CHAIN_NAME, "prerouting");
    assert!(!prerouting.matches(&shown(&regular)), "a chain at no hook");
}

#[test]
fn a_table_must_be_awake_and_hold_two_chains() {
    let table = |flags, count| {
        shown(
            &Attributes::default()
                .text(TABLE_NAME, TABLE)
                .number(TABLE_FLAGS, flags)
                .number(TABLE_USE, count),
        )
    };
    for (flags, count, expected) in [(0, 2, true), (1, 2, false), (0, 1, false), (0, 3, false)] {
        assert_eq!(
            table_matches(&table(flags, count), 2),
            expected,
            "flags {flags}, {count} chains"
        );
    }
}

#[test]
fn a_transaction_is_bordered_and_acknowledged_once() {
    let Request { bytes, last } = replace(&MARKS);
    let mut seen = Vec::new();
    let mut rest = &bytes[..];
    while !rest.is_empty() {
        let length = u32::from_ne_bytes(rest[..4].try_into().unwrap()) as usize;
        let half = |at: usize| u16::from_ne_bytes([rest[at], rest[at + 1]]);
        seen.push((
            half(4),
            half(6) & ACK != 0,
            u32::from_ne_bytes(rest[8..12].try_into().unwrap()),
        ));
        rest = &rest[length..];
    }
    let kinds: Vec<_> = seen.iter().map(|(kind, ..)| *kind).collect();
    assert_eq!(kinds, [16, 0xa00, 0xa02, 0xa00, 0xa03, 0xa03, 0xa06, 0xa06, 17]);
    let acknowledged: Vec<_> = seen
        .iter()
        .filter(|(_, ack, _)| *ack)
        .map(|(.., sequence)| *sequence)
        .collect();
    assert_eq!(acknowledged, [last]);
}

#[test]
fn a_rule_is_the_bytes_that_nf_tables_reads() {
    // load the mark (3) into register 1; numbers in network order, the mask and the mark in host order
    let rule = notrack_rule(0x3000, 0x1000);
    let shown = expressions(rule.as_bytes());
    let names: Vec<_> = shown.iter().map(|(name, _)| *name).collect();
    assert_eq!(names, [&b"meta"[..], b"bitwise", b"cmp", b"notrack"]);
    assert_eq!(
        shown[0].1,
        BTreeMap::from([(1, &[0, 0, 0, 1][..]), (2, &[0, 0, 0, 3][..])])
    );
    let value = |mark: u32| Attributes::default().bytes(1, &mark.to_ne_bytes());
    assert_eq!(shown[1].1[&4], value(0x3000).as_bytes());
    assert_eq!(shown[1].1[&5], value(0).as_bytes());
    assert_eq!(shown[2].1[&3], value(0x1000).as_bytes());
    assert!(shown[3].1.is_empty());
}
