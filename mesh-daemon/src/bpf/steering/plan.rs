//! What has to be added and removed so that steering stands: pure, from what the kernel shows.

use std::collections::BTreeSet;

use std::{fmt::Write as _, net::IpAddr};

use rtnetlink::{
    IpVersion,
    packet_route::{
        AddressFamily,
        route::{RouteAddress, RouteAttribute, RouteMessage, RouteProtocol, RouteScope, RouteType},
        rule::{RuleAction, RuleAttribute, RuleMessage},
    },
};

use crate::config::KernelSettings;

/// The routing protocol number (`ip rule`, `ip route`: `proto 87`) that marks what Weft wrote. The letter W; rtnetlink.h, iproute2's
/// rt_protos and the routing daemons that they list do not use it.
pub const PROTOCOL: u8 = 87;

/// Rules that stand one behind the other, from [`KernelSettings::rule_preference`] on.
const RULES: u32 = 3;

/// What to do, in this order.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Plan {
    pub(super) delete_rules: Vec<RuleMessage>,
    pub(super) delete_routes: Vec<RouteMessage>,
    pub(super) add_routes: Vec<RouteMessage>,
    /// The target of the first rule's goto first.
    pub(super) add_rules: Vec<RuleMessage>,
}

/// Somebody else's rule or route, in `ip`'s words.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Foreign {
    Rule(String),
    Route(String),
}

impl Plan {
    /// Whether all is as it should be.
    /// How much it takes away.
    pub(super) fn deletions(&self) -> usize {
        self.delete_rules.len() + self.delete_routes.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// From what stands to exactly one of each. `routes` are those of the settings' table.
pub(super) fn installation(
    settings: &KernelSettings,
    version: &IpVersion,
    loopback: u32,
    rules: &[RuleMessage],
    routes: &[RouteMessage],
) -> Result<Plan, Foreign> {
    let present: Vec<_> = rules.iter().filter(|rule| in_range(settings, rule)).collect();
    if let Some(foreign) = present.iter().find(|rule| !is_own_rule(rule)) {
        return Err(Foreign::Rule(rule_words(foreign)));
    }
    // the kernel itself keeps no routes in a table that only rules name, whatever their kind
    if let Some(foreign) = routes
        .iter()
        .find(|route| route.header.protocol != RouteProtocol::Other(PROTOCOL))
    {
        return Err(Foreign::Route(route_words(foreign)));
    }
    let mut plan = Plan::default();
    let mut missing = wanted_rules(settings, version);
    for rule in present {
        match missing
            .iter()
            .position(|wanted| Selector::of(wanted) == Selector::of(rule))
        {
            Some(at) => drop(missing.remove(at)),
            None => plan.delete_rules.push(rule.clone()),
        }
    }
    plan.add_rules = missing;
    let wanted = wanted_route(settings, version, loopback);
    let is_wanted = |route: &RouteMessage| {
        route.header.kind == RouteType::Local
            && route.header.destination_prefix_length == 0
            && route.attributes.contains(&RouteAttribute::Oif(loopback))
    };
    let (right, wrong): (Vec<&RouteMessage>, _) = routes.iter().partition(|route| is_wanted(route));
    plan.delete_routes = wrong.into_iter().cloned().collect();
    if right.is_empty() {
        plan.add_routes.push(wanted);
    }
    Ok(plan)
}

/// From what stands to nothing of Weft's, at whatever preference an earlier daemon put it.
pub(super) fn removal(rules: &[RuleMessage], routes: &[RouteMessage]) -> Plan {
    let own_route = |route: &&RouteMessage| route.header.protocol == RouteProtocol::Other(PROTOCOL);
    Plan {
        delete_rules: rules.iter().filter(|rule| is_own_rule(rule)).cloned().collect(),
        delete_routes: routes.iter().filter(own_route).cloned().collect(),
        ..Plan::default()
    }
}

/// The tables that Weft's own rules lead to.
pub(super) fn own_tables(rules: &[RuleMessage]) -> BTreeSet<u32> {
    rules
        .iter()
        .filter(|rule| is_own_rule(rule))
        .flat_map(|rule| &rule.attributes)
        .filter_map(|attribute| match attribute {
            RuleAttribute::Table(table) => Some(*table),
            _ => None,
        })
        .collect()
}

/// The table of a route: numbers above 255 do not fit the header.
pub(super) fn table_of(route: &RouteMessage) -> u32 {
    let attribute = route.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Table(table) => Some(*table),
        _ => None,
    });
    attribute.unwrap_or(u32::from(route.header.table))
}

/// The address family's number.
pub(super) fn family(version: &IpVersion) -> AddressFamily {
    match version {
        IpVersion::V4 => AddressFamily::Inet,
        IpVersion::V6 => AddressFamily::Inet6,
    }
}

fn wanted_rules(settings: &KernelSettings, version: &IpVersion) -> Vec<RuleMessage> {
    let preference = settings.rule_preference;
    let mark = [
        RuleAttribute::FwMark(settings.marks.mark_steer),
        RuleAttribute::FwMask(settings.marks.mark_mask),
    ];
    let rule = |offset: u32, action, attributes: &[RuleAttribute]| {
        let mut message = RuleMessage::default();
        message.header.family = family(version);
        message.header.action = action;
        message
            .attributes
            .push(RuleAttribute::Priority(preference.saturating_add(offset)));
        message
            .attributes
            .push(RuleAttribute::Protocol(RouteProtocol::Other(PROTOCOL)));
        message.attributes.extend_from_slice(attributes);
        message
    };
    let lookup = [&mark[..], &[RuleAttribute::Table(settings.route_table)]].concat();
    let target = RuleAttribute::Goto(preference.saturating_add(2));
    let step_over = [&[RuleAttribute::Iifname("lo".to_owned())], &mark[..], &[target]].concat();
    vec![
        rule(2, RuleAction::Nop, &[]),
        rule(0, RuleAction::Goto, &step_over),
        // last: from here on packets are delivered
        rule(1, RuleAction::ToTable, &lookup),
    ]
}

fn wanted_route(settings: &KernelSettings, version: &IpVersion, loopback: u32) -> RouteMessage {
    let mut message = RouteMessage::default();
    message.header.address_family = family(version);
    message.header.protocol = RouteProtocol::Other(PROTOCOL);
    message.header.kind = RouteType::Local;
    message.header.scope = RouteScope::Host;
    message.attributes.push(RouteAttribute::Table(settings.route_table));
    message.attributes.push(RouteAttribute::Oif(loopback));
    message
}

fn in_range(settings: &KernelSettings, rule: &RuleMessage) -> bool {
    preference_of(rule)
        .checked_sub(settings.rule_preference)
        .is_some_and(|offset| offset < RULES)
}

fn is_own_rule(rule: &RuleMessage) -> bool {
    rule.attributes
        .contains(&RuleAttribute::Protocol(RouteProtocol::Other(PROTOCOL)))
}

/// The kernel leaves out a preference of 0.
fn preference_of(rule: &RuleMessage) -> u32 {
    rule.attributes
        .iter()
        .find_map(|attribute| {
            if let RuleAttribute::Priority(at) = attribute {
                Some(*at)
            } else {
                None
            }
        })
        .unwrap_or(0)
}

/// What a rule selects and does: what counts when two are compared.
#[derive(Debug, Default, PartialEq, Eq)]
struct Selector {
    preference: u32,
    action: RuleAction,
    from: Option<(IpAddr, u8)>,
    to: Option<(IpAddr, u8)>,
    iif: Option<String>,
    mark: u32,
    mask: u32,
    table: u32,
    goto: u32,
}

impl Selector {
    fn of(rule: &RuleMessage) -> Self {
        let mut selector = Self {
            preference: preference_of(rule),
            action: rule.header.action,
            table: u32::from(rule.header.table),
            ..Self::default()
        };
        for attribute in &rule.attributes {
            match attribute {
                RuleAttribute::Source(ip) => selector.from = Some((*ip, rule.header.src_len)),
                RuleAttribute::Destination(ip) => selector.to = Some((*ip, rule.header.dst_len)),
                RuleAttribute::Iifname(name) => selector.iif = Some(name.clone()),
                RuleAttribute::FwMark(mark) => selector.mark = *mark,
                RuleAttribute::FwMask(mask) => selector.mask = *mask,
                RuleAttribute::Table(table) => selector.table = *table,
                RuleAttribute::Goto(target) => selector.goto = *target,
                _ => {}
            }
        }
        selector
    }
}

/// A rule as `ip rule` says it, as far as it tells which one is meant.
fn rule_words(rule: &RuleMessage) -> String {
    let Selector {
        preference,
        action,
        from,
        to,
        iif,
        mark,
        mask,
        table,
        goto,
    } = Selector::of(rule);
    let mut words = format!("{preference}:");
    // writing to a String cannot fail
    let _ = match from {
        Some((ip, bits)) => write!(words, " from {ip}/{bits}"),
        None => write!(words, " from all"),
    };
    if let Some((ip, bits)) = to {
        let _ = write!(words, " to {ip}/{bits}");
    }
    if mark != 0 || mask != 0 {
        let _ = write!(words, " fwmark {mark:#x}/{mask:#x}");
    }
    if let Some(iif) = iif {
        let _ = write!(words, " iif {iif}");
    }
    let _ = match action {
        RuleAction::ToTable => write!(words, " lookup {table}"),
        RuleAction::Goto => write!(words, " goto {goto}"),
        other => write!(words, " {}", format!("{other:?}").to_lowercase()),
    };
    words
}

/// A route as `ip route` says it, as far as it tells which one is meant.
fn route_words(route: &RouteMessage) -> String {
    let destination = route.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Destination(RouteAddress::Inet(ip)) => Some(IpAddr::V4(*ip)),
        RouteAttribute::Destination(RouteAddress::Inet6(ip)) => Some(IpAddr::V6(*ip)),
        _ => None,
    });
    let kind = match route.header.kind {
        RouteType::Unicast => String::new(),
        other => format!("{other:?} ").to_lowercase(),
    };
    match destination {
        Some(ip) => format!("{kind}{ip}/{}", route.header.destination_prefix_length),
        None => format!("{kind}default"),
    }
}

#[cfg(test)]
mod tests;
