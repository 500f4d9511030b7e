//! The borders of mesh-daemon: which files alone may touch the kernel, the API, threads, the environment and the disk; and that `model` is pure.

use super::{
    Finding, Rule,
    source::{Name, Source},
};

/// Names that only some files may use.
struct Border {
    rule: Rule,
    /// Any path that begins with one of these.
    names: &'static [&'static str],
    /// Files and folders below `mesh-daemon/src/` that may.
    allowed: &'static [&'static str],
    /// Whether test code may, too.
    tests_may: bool,
}

const BORDERS: [Border; 5] = [
    Border {
        rule: Rule::Aya,
        names: &["aya", "aya_log", "aya_obj"],
        allowed: &["bpf"],
        tests_may: false,
    },
    Border {
        rule: Rule::Kube,
        names: &["kube", "kube_runtime", "k8s_openapi"],
        allowed: &["watch"],
        tests_may: false,
    },
    Border {
        rule: Rule::Spawn,
        names: &[
            "tokio::spawn",
            "tokio::task::spawn",
            "tokio::task::spawn_local",
            "tokio::task::spawn_blocking",
            "tokio::task::JoinSet",
            "std::thread::spawn",
            "std::thread::scope",
            "std::thread::Builder",
            ".::spawn_local",
            ".::spawn_blocking",
        ],
        allowed: &["task.rs"],
        tests_may: true,
    },
    Border {
        rule: Rule::Env,
        names: &["std::env"],
        allowed: &["config"],
        tests_may: true,
    },
    Border {
        rule: Rule::Files,
        names: &["std::fs", "tokio::fs"],
        allowed: &[
            "config",
            "watch/manifest.rs",
            "watch/manifest",
            "watch/state.rs",
            "certs/file.rs",
        ],
        tests_may: true,
    },
];

/// The crates that the brain may use, as paths name them: plain values (`http` has the types of heads and no I/O), and pure functions.
const MODEL_CRATES: [&str; 6] = [
    "http",
    "ipnet",
    "mesh_common",
    "regex_automata",
    "regex_syntax",
    "serde",
];
/// Parts of std that act, wait, or know the time.
const MODEL_STD: [&str; 11] = [
    "std::env",
    "std::fs",
    "std::io",
    "std::process",
    "std::thread",
    "std::time",
    "std::sync::Mutex",
    "std::sync::RwLock",
    "std::sync::mpsc",
    "std::sync::atomic",
    "std::os",
];
/// std's sockets; its addresses are plain values.
const MODEL_NET: [&str; 3] = ["std::net::TcpStream", "std::net::TcpListener", "std::net::UdpSocket"];

/// Names that this file may not use.
pub(super) fn findings(source: &Source, dependencies: &[String]) -> Vec<Finding> {
    let mut findings: Vec<Finding> = source
        .names
        .iter()
        .flat_map(|name| {
            let messages = [
                border(source, name),
                kernel_types(source, name),
                purity(source, name, dependencies),
            ];
            messages.into_iter().flatten().map(|(rule, message)| Finding {
                rule,
                path: source.path.clone(),
                line: name.line,
                message,
            })
        })
        .collect();
    findings.dedup();
    findings
}

/// The names of a manifest's `[dependencies]`, as paths write them.
pub(super) fn dependencies(manifest: &str) -> Vec<String> {
    let section = manifest
        .lines()
        .skip_while(|line| line.trim() != "[dependencies]")
        .skip(1);
    let lines = section.take_while(|line| !line.starts_with('['));
    lines
        .filter_map(|line| line.split(['.', '=', ' ']).next())
        .filter(|name| !name.is_empty())
        .map(|name| name.replace('-', "_"))
        .collect()
}

fn border(source: &Source, name: &Name) -> Option<(Rule, String)> {
    let file = source.path.strip_prefix("mesh-daemon/src/")?;
    let crossed = BORDERS.iter().find(|border| {
        let at_home = border
            .allowed
            .iter()
            .any(|place| file == *place || file.starts_with(&format!("{place}/")));
        let may = at_home || (border.tests_may && name.in_test);
        !may && border.names.iter().any(|prefix| begins_with(name, prefix))
    })?;
    Some((
        crossed.rule,
        format!(
            "`{}` belongs in {} only",
            name.segments.join("::"),
            crossed.allowed.join(", ")
        ),
    ))
}

/// The contract says that its types are fit for maps, and nothing else about aya.
fn kernel_types(source: &Source, name: &Name) -> Option<(Rule, String)> {
    let breach = source.path.starts_with("mesh-common/") && begins_with(name, "aya") && !begins_with(name, "aya::Pod");
    breach.then(|| {
        (
            Rule::Aya,
            format!("mesh-common knows `aya::Pod` only, not `{}`", name.segments.join("::")),
        )
    })
}

/// Same inputs, same snapshot: the brain has nothing else to look at. Its tests may use no more than it.
fn purity(source: &Source, name: &Name, dependencies: &[String]) -> Option<(Rule, String)> {
    if source.room() != Some("model") || name.in_test {
        return None;
    }
    let first = name.segments.first()?;
    let foreign = dependencies.contains(first) && !MODEL_CRATES.contains(&first.as_str());
    let acts = MODEL_STD
        .iter()
        .chain(&MODEL_NET)
        .any(|prefix| begins_with(name, prefix));
    (foreign || acts).then(|| {
        (
            Rule::Model,
            format!(
                "`model` is pure: std's plain types, ids, ipnet, serde and mesh-common; not `{}`",
                name.segments.join("::")
            ),
        )
    })
}

fn begins_with(name: &Name, prefix: &str) -> bool {
    let mut segments = name.segments.iter();
    prefix
        .split("::")
        .all(|wanted| segments.next().is_some_and(|segment| segment == wanted))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(path: &str, text: &str) -> Vec<Rule> {
        let dependencies = ["tokio", "mesh_common", "ipnet", "tracing"].map(str::to_owned);
        let source = Source::parse(path.into(), text).unwrap();
        findings(&source, &dependencies)
            .into_iter()
            .map(|finding| finding.rule)
            .collect()
    }

    #[test]
    fn borders_are_kept() {
        for (file, text, expected) in [
            ("bpf/attach.rs", "use aya::Ebpf;", vec![]),
            ("proxy/dial.rs", "use aya::Ebpf;", vec![Rule::Aya]),
            ("watch/pod.rs", "use k8s_openapi::api::core::v1::Pod;", vec![]),
            ("admin/mod.rs", "use k8s_openapi::api::core::v1::Pod;", vec![Rule::Kube]),
            (
                "task.rs",
                "fn f() { tokio::task::spawn_local(x); std::thread::Builder::new(); }",
                vec![],
            ),
            (
                "proxy/mod.rs",
                "use crate::task; fn f() { task::spawn(\"x\", y); }",
                vec![],
            ),
            ("proxy/mod.rs", "fn f() { tokio::spawn(x); }", vec![Rule::Spawn]),
            (
                "proxy/mod.rs",
                "use tokio::task;\nfn f() { task::spawn_local(x); }",
                vec![Rule::Spawn],
            ),
            (
                "proxy/mod.rs",
                "use std::thread;\nfn f() { thread::spawn(x); }",
                vec![Rule::Spawn],
            ),
            ("proxy/mod.rs", "fn f() { set.spawn_local(x); }", vec![Rule::Spawn]),
            (
                "proxy/mod.rs",
                "#[tokio::test]\nasync fn f() { tokio::spawn(x); }",
                vec![],
            ),
            ("config/args.rs", "use std::env;", vec![]),
            ("app/mod.rs", "fn f() { std::env::var(x); }", vec![Rule::Env]),
            ("app/mod.rs", "fn f() -> &'static str { env!(\"OUT_DIR\") }", vec![]),
            ("app/mod.rs", "#[test]\nfn f() { std::env::var(x); }", vec![]),
            ("watch/manifest.rs", "use std::fs;", vec![]),
            ("watch/manifest/read.rs", "use std::fs;", vec![]),
            ("certs/file.rs", "use tokio::fs;", vec![]),
            ("watch/pod.rs", "use std::fs::File;", vec![Rule::Files]),
            ("bpf/pins.rs", "use std::{fs, io};", vec![Rule::Files]),
            ("bpf/tests.rs", "use std::fs;", vec![]),
        ] {
            assert_eq!(
                rules(&format!("mesh-daemon/src/{file}"), text),
                expected,
                "{file}: {text}"
            );
        }
    }

    #[test]
    fn the_contract_knows_one_trait_of_aya() {
        assert_eq!(rules("mesh-common/src/layout.rs", "unsafe impl aya::Pod for T {}"), []);
        assert_eq!(rules("mesh-common/src/layout.rs", "use aya::Ebpf;"), [Rule::Aya]);
    }

    #[test]
    fn the_brain_is_pure() {
        for (text, expected) in [
            ("use std::collections::BTreeMap;", vec![]),
            ("use std::{net::IpAddr, sync::Arc};", vec![]),
            ("use mesh_common::addr::Addr; use ipnet::IpNet;", vec![]),
            ("use tokio::sync::watch;", vec![Rule::Model]),
            ("fn f() { tracing::info!(\"x\"); }", vec![Rule::Model]),
            ("use std::sync::Mutex;", vec![Rule::Model]),
            ("use std::time::Instant;", vec![Rule::Model]),
            ("use std::net::TcpStream;", vec![Rule::Model]),
        ] {
            assert_eq!(rules("mesh-daemon/src/model/build.rs", text), expected, "{text}");
        }
    }

    #[test]
    fn a_manifests_dependencies() {
        let manifest = "[package]\nname = \"x\"\n[dependencies]\nanyhow.workspace = true\nmesh-common = { path = \"y\" }\n\n[lints]\nno = 1\n";
        assert_eq!(dependencies(manifest), ["anyhow", "mesh_common"]);
    }
}
