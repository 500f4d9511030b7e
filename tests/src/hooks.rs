//! What stands in a node's kernel: programs on interfaces, rules, routes, tables, pins. Asked of the kernel, never of the daemon.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use aya::programs::{SchedClassifier, TcAttachType};

use crate::bench::{Bench, Netns};

/// How Weft's programs' names begin.
const PREFIX: &str = "weft_";
/// The routing protocol number of Weft's rules and routes, as `ip` shows it.
const OUR_PROTOCOL: &str = "proto 87";

/// Names of Weft's programs on each interface's ingress, TCX and clsact together; interfaces without one are left out.
///
/// # Errors
/// If the kernel does not answer.
pub fn programs(node: &Netns) -> Result<BTreeMap<String, Vec<String>>> {
    let mut found = BTreeMap::new();
    for interface in interfaces(node)? {
        let mut names = tcx(node, &interface)?;
        names.extend(clsact(node, &interface)?);
        if !names.is_empty() {
            found.insert(interface, names);
        }
    }
    Ok(found)
}

/// How many of Weft's programs stand on a node: TCX links and clsact filters.
///
/// # Errors
/// If the kernel does not answer.
pub fn count_by_way(node: &Netns) -> Result<(usize, usize)> {
    interfaces(node)?
        .iter()
        .try_fold((0, 0), |(links, filters), interface| {
            Ok((
                links + tcx(node, interface)?.len(),
                filters + clsact(node, interface)?.len(),
            ))
        })
}

/// Checks that every interface of a node but `lo` carries exactly one of Weft's programs.
///
/// # Errors
/// Names the interface that does not.
pub fn exactly_one_each(node: &Netns) -> Result<()> {
    let programs = programs(node)?;
    for interface in interfaces(node)? {
        let count = programs.get(&interface).map_or(0, Vec::len);
        let expected = usize::from(interface != "lo");
        ensure!(
            count == expected,
            "{interface} carries {count} programs of ours, not {expected}: {programs:?}"
        );
    }
    Ok(())
}

/// Checks that nothing of Weft's is left on a node.
///
/// # Errors
/// Names what is left.
pub fn nothing_left(bench: &Bench, node: usize) -> Result<()> {
    nothing_left_but_the_pin_directory(bench, node)?;
    let dir = bench.pin_dir(node);
    ensure!(!dir.exists(), "the directory for pins is left: {}", dir.display());
    Ok(())
}

/// The same after a start that was refused beyond its lock: the lock is on the pin directory itself, and a daemon that ends cannot know whether
/// the next one has opened it already.
///
/// # Errors
/// Names what is left.
pub fn nothing_left_but_the_pin_directory(bench: &Bench, node: usize) -> Result<()> {
    let netns = &bench.nodes[node].netns;
    let programs = programs(netns)?;
    ensure!(programs.is_empty(), "programs are left: {programs:?}");
    let tables = netns.run("nft", &["list", "tables"])?;
    ensure!(!tables.contains("weft"), "an nftables table is left: {tables}");
    for family in ["-4", "-6"] {
        let rules = netns.run("ip", &[family, "rule", "show"])?;
        // one of the three names no mark: what others never have is our protocol number
        let ours = ["0x1000", OUR_PROTOCOL].iter().any(|word| rules.contains(word));
        ensure!(!ours, "routing rules are left: {rules}");
        // a table that was never used does not exist, which `ip` reports as a failure
        let routes = netns
            .run("ip", &[family, "route", "show", "table", "100"])
            .unwrap_or_default();
        ensure!(routes.trim().is_empty(), "routes are left: {routes}");
    }
    let qdiscs = netns.run("tc", &["qdisc", "show"])?;
    ensure!(!qdiscs.contains("clsact"), "qdiscs are left: {qdiscs}");
    let pins = pins(&bench.pin_dir(node));
    ensure!(pins.is_empty(), "pins or folders for them are left: {pins:?}");
    Ok(())
}

/// Interfaces of a namespace.
///
/// # Errors
/// If it does not exist.
pub fn interfaces(node: &Netns) -> Result<Vec<String>> {
    let text = node.inside(|| std::fs::read_to_string("/proc/thread-self/net/dev"))??;
    Ok(text
        .lines()
        .skip(2)
        .filter_map(|line| Some(line.split_once(':')?.0.trim().to_owned()))
        .collect())
}

/// Everything below a directory, folders included.
fn pins(dir: &std::path::Path) -> Vec<std::path::PathBuf> {
    let Ok(entries) = std::fs::read_dir(dir) else {
        return Vec::new();
    };
    let paths = entries.flatten().map(|entry| entry.path());
    paths.flat_map(|path| [pins(&path), vec![path]].concat()).collect()
}

fn tcx(node: &Netns, interface: &str) -> Result<Vec<String>> {
    let asked = node.inside(|| SchedClassifier::query_tcx(interface, TcAttachType::Ingress))?;
    let (_, programs) = asked.with_context(|| format!("asking for TCX programs on {interface}"))?;
    Ok(programs
        .iter()
        .filter_map(|program| program.name_as_str())
        .filter(|name| name.starts_with(PREFIX))
        .map(str::to_owned)
        .collect())
}

fn clsact(node: &Netns, interface: &str) -> Result<Vec<String>> {
    // an interface without the qdisc has no filters, which `tc` reports as a failure
    let text = node
        .run("tc", &["filter", "show", "dev", interface, "ingress"])
        .unwrap_or_default();
    // each line names the program twice: as the filter and as the program
    let lines = text.lines().filter(|line| line.contains("handle 0x"));
    let name = |line: &str| {
        line.split_whitespace()
            .find(|word| word.starts_with(PREFIX))
            .map(str::to_owned)
    };
    Ok(lines.filter_map(name).collect())
}
