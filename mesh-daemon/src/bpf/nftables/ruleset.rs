//! Weft's nftables table as data: the transaction that writes it, and whether what the kernel shows is still it. Pure. Numbers are from
//! linux/netfilter/nf_tables.h and linux/netfilter.h.

use std::collections::BTreeMap;

use mesh_common::settings::Settings as Marks;

use super::wire::{Attributes, as_number, as_text, attributes, find, message, payload_attributes};

/// The table's name; its family is `inet` (IPv4 and IPv6).
pub const TABLE: &str = "weft";

/// `NFPROTO_INET`.
const FAMILY: u8 = 1;
/// `NF_IP_PRI_RAW`, before conntrack (-200): the last moment at which a packet can be left untracked.
const PRIORITY_RAW: i32 = -300;
/// `NF_INET_PRE_ROUTING` and `NF_INET_LOCAL_OUT`.
const HOOK_PREROUTING: u32 = 0;
const HOOK_OUTPUT: u32 = 3;
const ACCEPT: u32 = 1;

const SUBSYSTEM: u16 = 10;
const BATCH_BEGIN: u16 = 16;
const BATCH_END: u16 = 17;
const NEW_TABLE: u16 = 0;
const GET_TABLE: u16 = 1;
const DELETE_TABLE: u16 = 2;
const NEW_CHAIN: u16 = 3;
const GET_CHAIN: u16 = 4;
const NEW_RULE: u16 = 6;
const GET_RULE: u16 = 7;

const REQUEST: u16 = 1;
const ACK: u16 = 4;
const CREATE: u16 = 0x400;
const APPEND: u16 = 0x800;
const DUMP: u16 = 0x300;

const TABLE_NAME: u16 = 1;
const TABLE_FLAGS: u16 = 2;
const TABLE_USE: u16 = 3;
const CHAIN_TABLE: u16 = 1;
const CHAIN_NAME: u16 = 3;
const CHAIN_HOOK: u16 = 4;
const CHAIN_POLICY: u16 = 5;
const CHAIN_TYPE: u16 = 7;
const HOOK_NUMBER: u16 = 1;
const HOOK_PRIORITY: u16 = 2;
const RULE_TABLE: u16 = 1;
const RULE_CHAIN: u16 = 2;
const RULE_EXPRESSIONS: u16 = 4;
const LIST_ELEMENT: u16 = 1;
const EXPRESSION_NAME: u16 = 1;
const EXPRESSION_DATA: u16 = 2;
const DATA_VALUE: u16 = 1;

/// `NFT_REG_1`, the first register.
const REGISTER: u32 = 1;

/// A base chain of type filter at priority raw, and its only rule: packets whose mark has `mark` under the mask are not tracked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Chain {
    /// Its name.
    pub(super) name: &'static str,
    hook: u32,
    rule: Attributes,
}

/// A request and the sequence number whose answer ends it.
pub(super) struct Request {
    /// One or more messages.
    pub(super) bytes: Vec<u8>,
    /// The last message that asks for an acknowledgement.
    pub(super) last: u32,
}

/// The chains for these marks: steered packets on the way in, packets of transparent sockets on the way out.
pub(super) fn chains(marks: &Marks) -> [Chain; 2] {
    [
        Chain {
            name: "prerouting",
            hook: HOOK_PREROUTING,
            rule: notrack_rule(marks.mark_mask, marks.mark_steer),
        },
        Chain {
            name: "output",
            hook: HOOK_OUTPUT,
            rule: notrack_rule(marks.mark_mask, marks.mark_transparent),
        },
    ]
}

/// One transaction: the old table, if there is one, goes and the new one stands; no packet meets anything between.
pub(super) fn replace(marks: &Marks) -> Request {
    let table = Attributes::default().text(TABLE_NAME, TABLE);
    // a table that exists is not an error, so that the deletion always finds one
    let mut steps = vec![
        (NEW_TABLE, CREATE, table.clone()),
        (DELETE_TABLE, 0, table.clone()),
        (NEW_TABLE, CREATE, table),
    ];
    let chains = chains(marks);
    steps.extend(chains.iter().map(|chain| (NEW_CHAIN, CREATE, chain.attributes())));
    steps.extend(
        chains
            .iter()
            .map(|chain| (NEW_RULE, CREATE | APPEND, chain.rule_attributes())),
    );
    batch(&steps)
}

/// One transaction: the table and all in it goes. `ENOENT` if there is none.
pub(super) fn delete() -> Request {
    batch(&[(DELETE_TABLE, 0, Attributes::default().text(TABLE_NAME, TABLE))])
}

/// Asks for the table.
pub(super) fn get_table() -> Request {
    single(GET_TABLE, ACK, &Attributes::default().text(TABLE_NAME, TABLE))
}

/// Asks for a chain.
pub(super) fn get_chain(name: &str) -> Request {
    single(
        GET_CHAIN,
        ACK,
        &Attributes::default().text(CHAIN_TABLE, TABLE).text(CHAIN_NAME, name),
    )
}

/// Asks for every rule of the table.
pub(super) fn get_rules() -> Request {
    single(GET_RULE, DUMP, &Attributes::default().text(RULE_TABLE, TABLE))
}

/// Whether the kernel's table has as many chains as it should and is not dormant.
pub(super) fn table_matches(payload: &[u8], chain_count: usize) -> bool {
    let number = |kind| find(payload_attributes(payload), kind).and_then(as_number);
    number(TABLE_FLAGS).unwrap_or(0) == 0
        && number(TABLE_USE).and_then(|count| count.try_into().ok()) == Some(chain_count)
}

/// Whether the kernel's rules (payloads of a dump) are those of the chains: one each, and no other.
pub(super) fn rules_match(payloads: &[&[u8]], chains: &[Chain]) -> bool {
    // kernels that do not filter dumps show other tables' rules as well
    let ours: Vec<_> = payloads
        .iter()
        .filter(|payload| text(payload, RULE_TABLE) == Some(TABLE.as_bytes()))
        .collect();
    let found = |chain: &Chain| {
        ours.iter().any(|payload| {
            text(payload, RULE_CHAIN) == Some(chain.name.as_bytes())
                && find(payload_attributes(payload), RULE_EXPRESSIONS)
                    .is_some_and(|shown| expressions_match(&expressions(shown), &expressions(chain.rule.as_bytes())))
        })
    };
    ours.len() == chains.len() && chains.iter().all(found)
}

impl Chain {
    /// Whether the kernel's chain of this name stands at the same hook, with the same type, priority and policy.
    pub(super) fn matches(&self, payload: &[u8]) -> bool {
        let wanted = self.attributes();
        let hook = |bytes, kind| {
            find(attributes(bytes), CHAIN_HOOK)
                .and_then(|hook| find(attributes(hook), kind))
                .and_then(as_number)
        };
        let Some(shown) = payload.get(4..) else { return false };
        let same_value = |kind| find(attributes(shown), kind) == find(attributes(wanted.as_bytes()), kind);
        let same_hook = |kind| hook(shown, kind) == hook(wanted.as_bytes(), kind);
        [CHAIN_NAME, CHAIN_POLICY, CHAIN_TYPE].into_iter().all(same_value)
            && same_hook(HOOK_NUMBER)
            && same_hook(HOOK_PRIORITY)
    }

    fn attributes(&self) -> Attributes {
        let hook = Attributes::default()
            .number(HOOK_NUMBER, self.hook)
            .bytes(HOOK_PRIORITY, &PRIORITY_RAW.to_be_bytes());
        Attributes::default()
            .text(CHAIN_TABLE, TABLE)
            .text(CHAIN_NAME, self.name)
            .nested(CHAIN_HOOK, &hook)
            .number(CHAIN_POLICY, ACCEPT)
            .text(CHAIN_TYPE, "filter")
    }

    fn rule_attributes(&self) -> Attributes {
        Attributes::default()
            .text(RULE_TABLE, TABLE)
            .text(RULE_CHAIN, self.name)
            .nested(RULE_EXPRESSIONS, &self.rule)
    }
}

/// `meta mark & mask == mark notrack`, as nf_tables computes it: load, mask, compare, act.
fn notrack_rule(mask: u32, mark: u32) -> Attributes {
    /// `NFTA_META_DREG`, `NFTA_META_KEY`, `NFT_META_MARK`.
    const META: [u16; 2] = [1, 2];
    const META_MARK: u32 = 3;
    /// `NFTA_BITWISE_` SREG, DREG, LEN, MASK, XOR, OP; the operation 0 is `NFT_BITWISE_MASK_XOR`.
    const BITWISE: [u16; 6] = [1, 2, 3, 4, 5, 6];
    /// `NFTA_CMP_` SREG, OP, DATA; the operation 0 is `NFT_CMP_EQ`.
    const CMP: [u16; 3] = [1, 2, 3];
    /// Bytes of a mark.
    const MARK_BYTES: u32 = 4;

    // registers hold marks in host order
    let value = |mark: u32| Attributes::default().bytes(DATA_VALUE, &mark.to_ne_bytes());
    let load = Attributes::default()
        .number(META[1], META_MARK)
        .number(META[0], REGISTER);
    let masked = Attributes::default()
        .number(BITWISE[0], REGISTER)
        .number(BITWISE[1], REGISTER)
        .number(BITWISE[2], MARK_BYTES)
        .number(BITWISE[5], 0)
        .nested(BITWISE[3], &value(mask))
        .nested(BITWISE[4], &value(0));
    let compare = Attributes::default()
        .number(CMP[0], REGISTER)
        .number(CMP[1], 0)
        .nested(CMP[2], &value(mark));
    let named = |name| Attributes::default().text(EXPRESSION_NAME, name);
    [
        named("meta").nested(EXPRESSION_DATA, &load),
        named("bitwise").nested(EXPRESSION_DATA, &masked),
        named("cmp").nested(EXPRESSION_DATA, &compare),
        named("notrack"),
    ]
    .iter()
    .fold(Attributes::default(), |list, expression| {
        list.nested(LIST_ELEMENT, expression)
    })
}

/// An expression's name and its attributes.
type Expression<'a> = (&'a [u8], BTreeMap<u16, &'a [u8]>);

fn expressions(list: &[u8]) -> Vec<Expression<'_>> {
    let one = |(_, element)| {
        let name = find(attributes(element), EXPRESSION_NAME)
            .map(as_text)
            .unwrap_or_default();
        let data = find(attributes(element), EXPRESSION_DATA).unwrap_or_default();
        (name, attributes(data).collect())
    };
    attributes(list).map(one).collect()
}

/// Whether everything that was written is shown. A kernel may show more than it was told (defaults that later versions know).
fn expressions_match(shown: &[Expression<'_>], wanted: &[Expression<'_>]) -> bool {
    shown.len() == wanted.len()
        && shown
            .iter()
            .zip(wanted)
            .all(|((shown_name, shown_data), (name, data))| {
                shown_name == name && data.iter().all(|(kind, value)| shown_data.get(kind) == Some(value))
            })
}

fn text(payload: &[u8], kind: u16) -> Option<&[u8]> {
    find(payload_attributes(payload), kind).map(as_text)
}

/// A transaction (Documentation of nfnetlink batches: linux/netfilter/nfnetlink.h, `NFNL_MSG_BATCH_BEGIN`). Only the last step is
/// acknowledged; refused steps answer in any case.
fn batch(steps: &[(u16, u16, Attributes)]) -> Request {
    let border = |kind, sequence| message(kind, REQUEST, sequence, 0, SUBSYSTEM, &Attributes::default());
    let mut bytes = border(BATCH_BEGIN, 0);
    let mut last = 0;
    for (index, (kind, flags, attributes)) in steps.iter().enumerate() {
        let ack = if index + 1 == steps.len() { ACK } else { 0 };
        last += 1;
        bytes.extend(message(
            SUBSYSTEM << 8 | kind,
            REQUEST | ack | flags,
            last,
            FAMILY,
            0,
            attributes,
        ));
    }
    bytes.extend(border(BATCH_END, last + 1));
    Request { bytes, last }
}

fn single(kind: u16, flags: u16, attributes: &Attributes) -> Request {
    Request {
        bytes: message(SUBSYSTEM << 8 | kind, REQUEST | flags, 1, FAMILY, 0, attributes),
        last: 1,
    }
}

#[cfg(test)]
mod tests;
