//! The floors of mesh-daemon: a file may use a room only if it is on a lower floor or its own.

use super::{
    Finding, Rule,
    source::{Name, Source},
};

/// The rooms from the ground up. Rooms of one floor never see each other, but for the ground floor's words, which may use those before them.
const FLOORS: [&[&str]; 7] = [
    &["ids", "clock", "drain", "print", "ready", "task", "telemetry"],
    &["config"],
    &["model"],
    &["watch", "certs", "bpf"],
    &["proxy"],
    &["admin", "cli", "ca"],
    &["app", "main"],
];

/// What the floors alone would allow, and the architecture does not.
const NEVER: [(&str, &str, &str); 5] = [
    ("model", "config", "the brain knows inputs, not flags"),
    (
        "proxy",
        "bpf",
        "the whole data path runs in tests without a kernel; ask through a trait that `app` fills",
    ),
    (
        "proxy",
        "watch",
        "what the data path knows about the cluster stands in the snapshot",
    ),
    ("ca", "proxy", "the certificate authority is a process of its own"),
    ("ca", "bpf", "the certificate authority is a process of its own"),
];

/// Uses of rooms that this file may not use; for `lib.rs`, rooms that stand out of order.
pub(super) fn findings(source: &Source) -> Vec<Finding> {
    if source.path == "mesh-daemon/src/lib.rs" {
        return order(source);
    }
    let Some(from) = source.room() else { return Vec::new() };
    let mut findings: Vec<Finding> = source
        .names
        .iter()
        .filter_map(|name| {
            let to = room_named(source, name)?;
            let message = forbidden(from, to)?;
            Some(Finding {
                rule: Rule::Floors,
                path: source.path.clone(),
                line: name.line,
                message,
            })
        })
        .collect();
    findings.dedup();
    findings
}

/// `lib.rs` lists the rooms from the ground up, and no room that is on no floor.
fn order(source: &Source) -> Vec<Finding> {
    let mut highest = (0, "");
    let mut findings = Vec::new();
    for (room, line) in &source.modules {
        let message = match floor(room) {
            None => Some(format!(
                "`{room}` is on no floor; give it one in xtask's tidy/floors.rs"
            )),
            Some(floor) if floor < highest.0 => Some(format!(
                "`{room}` belongs on a lower floor than `{}`; move it up",
                highest.1
            )),
            Some(floor) => {
                highest = (floor, room);
                None
            }
        };
        findings.extend(message.map(|message| Finding {
            rule: Rule::Floors,
            path: source.path.clone(),
            line: *line,
            message,
        }));
    }
    findings
}

/// Why `from` may not use `to`, if it may not.
fn forbidden(from: &str, to: &str) -> Option<String> {
    let (from_floor, to_floor) = (floor(from)?, floor(to)?);
    if from == to {
        return None;
    }
    if let Some((.., why)) = NEVER.iter().find(|(room, other, _)| *room == from && *other == to) {
        return Some(format!("`{from}` never uses `{to}`: {why}"));
    }
    let earlier_word = (from_floor, to_floor) == (0, 0) && position(to) < position(from);
    let allowed = to_floor < from_floor || earlier_word || from_floor == FLOORS.len() - 1;
    (!allowed)
        .then(|| format!("`{from}` (floor {from_floor}) may not use `{to}` (floor {to_floor}): only lower floors"))
}

/// The room that a path leads into: by `crate::room`, or up through `super`.
fn room_named<'a>(source: &Source, name: &'a Name) -> Option<&'a str> {
    let segments: Vec<&str> = name.segments.iter().map(String::as_str).collect();
    let supers = segments.iter().take_while(|segment| **segment == "super").count();
    // an inline module of tests is one step deeper than its file
    let depth = source.depth() + usize::from(name.in_test);
    let room = match segments.first()? {
        &"crate" | &"mesh_daemon" => segments.get(1),
        &"super" if supers >= depth => segments.get(supers),
        _ => None,
    }?;
    floor(room).map(|_| *room)
}

fn floor(room: &str) -> Option<usize> {
    FLOORS.iter().position(|rooms| rooms.contains(&room))
}

fn position(word: &str) -> Option<usize> {
    FLOORS[0].iter().position(|other| *other == word)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(path: &str, text: &str) -> usize {
        findings(&Source::parse(path.into(), text).unwrap()).len()
    }

    #[test]
    fn rooms_use_lower_floors() {
        for (room, line, expected) in [
            ("model/build.rs", "use crate::ids::NodeName;", 0),
            ("model/build.rs", "use super::inputs::Pod;", 0),
            ("model/build.rs", "use crate::config::Settings;", 1),
            ("model/build.rs", "use crate::watch;", 1),
            ("model/mod.rs", "use super::watch;", 1),
            ("model/build.rs", "use super::super::watch;", 1),
            ("model/build.rs", "use crate::{ids, proxy::{self, dial}};", 1),
            ("watch/mod.rs", "use crate::{config, model, task};", 0),
            ("watch/mod.rs", "use crate::bpf;", 1),
            ("bpf/mod.rs", "fn f() { crate::watch::run() }", 1),
            ("bpf/mod.rs", "fn f() { println!(\"{}\", crate::watch::run()) }", 1),
            ("proxy/dial.rs", "use crate::model::Snapshot;", 0),
            ("proxy/dial.rs", "use crate::bpf;", 1),
            ("proxy/dial.rs", "use crate::watch;", 1),
            ("admin/mod.rs", "use crate::{bpf, watch, proxy};", 0),
            ("admin/mod.rs", "use crate::cli;", 1),
            ("cli/mod.rs", "use crate::admin;", 1),
            ("app/mod.rs", "use crate::{cli, admin, proxy, bpf, ids};", 0),
            ("main.rs", "use mesh_daemon::{app, cli};", 0),
            ("task.rs", "use crate::ids;", 0),
            ("ids.rs", "use crate::task;", 1),
            ("drain.rs", "#[cfg(test)] mod tests { use super::*; }", 0),
            ("drain.rs", "use crate::proxy;", 1),
        ] {
            assert_eq!(
                count(&format!("mesh-daemon/src/{room}"), line),
                expected,
                "{room}: {line}"
            );
        }
    }

    #[test]
    fn other_crates_have_no_floors() {
        assert_eq!(count("mesh-common/src/decide.rs", "use crate::config;"), 0);
        assert_eq!(count("tests/src/lib.rs", "use mesh_daemon::app;"), 0);
    }

    #[test]
    fn lib_lists_rooms_from_the_ground_up() {
        for (text, expected) in [
            (
                "pub mod ids; pub mod config; pub mod bpf; pub mod watch; pub mod app;",
                0,
            ),
            ("pub mod model; pub mod config;", 1),
            ("pub mod ids; pub mod utils;", 1),
            ("pub mod app; #[cfg(test)] mod fixtures;", 0),
        ] {
            assert_eq!(count("mesh-daemon/src/lib.rs", text), expected, "{text}");
        }
    }
}
