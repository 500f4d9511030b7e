//! Golden cases on plain maps: each gives the snapshot and tables that stand beside it, in whatever order and files its manifests come,
//! and tables are reached from every other case's.
#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests: a case that cannot be read ends the test"
)]

use std::{collections::BTreeMap, fs, path::Path};

use mesh_daemon::{bpf::table::reconcile, model};
use mesh_tests::golden::{self, Case, FakeTable};

/// Fewer would mean that cases got lost.
const CASES_MIN: usize = 10;

fn cases() -> Vec<Case> {
    let cases = golden::cases().unwrap();
    assert!(cases.len() >= CASES_MIN, "{} cases", cases.len());
    cases
}

#[test]
fn each_case_gives_the_snapshot_and_tables_beside_it() {
    let bless = std::env::var_os("WEFT_BLESS").is_some();
    let failures: Vec<String> = cases()
        .iter()
        .flat_map(|case| [("snapshot.txt", case, case.snapshot()), ("maps.txt", case, case.maps())])
        .filter_map(|(file, case, actual)| golden::compare(&case.directory.join(file), &actual, bless).err())
        .map(|error| format!("{error:#}"))
        .collect();
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn tables_are_reached_from_every_other_cases() {
    let cases = cases();
    for from in &cases {
        for to in &cases {
            let way = format!("{} → {}", from.name, to.name);
            let (have, want) = (&from.content.tables, &to.content.tables);
            reach(&have.ifaces, &want.ifaces, &way);
            reach(&have.services, &want.services, &way);
            let set = |entries: &std::collections::BTreeSet<_>| entries.iter().map(|entry| (*entry, 1)).collect();
            reach::<_, u32>(&set(&have.pod_ranges), &set(&want.pod_ranges), &way);
            let set = |entries: &std::collections::BTreeSet<_>| entries.iter().map(|entry| (*entry, 1)).collect();
            reach::<_, u32>(&set(&have.node_addrs), &set(&want.node_addrs), &way);
        }
    }
}

/// Reaches `want` when the contents are unknown (a restart) and when they are known; a second time does nothing.
fn reach<K, V>(have: &BTreeMap<K, V>, want: &BTreeMap<K, V>, way: &str)
where
    K: Ord + Clone + std::fmt::Debug,
    V: PartialEq + Clone + std::fmt::Debug,
{
    for mut known in [None, Some(have.clone())] {
        let mut table = FakeTable(have.clone());
        reconcile(&mut table, &mut known, want).unwrap();
        assert_eq!(&table.0, want, "{way}");
        assert_eq!(
            reconcile(&mut table, &mut known, want).unwrap(),
            <_>::default(),
            "{way}"
        );
    }
    // what is known may be stale: somebody else deleted everything
    let mut table = FakeTable(BTreeMap::new());
    reconcile(&mut table, &mut Some(have.clone()), &BTreeMap::new()).unwrap();
    assert_eq!(table.0, BTreeMap::new(), "{way}: deleting the absent is fine");
}

#[test]
fn files_and_their_order_do_not_matter() {
    for case in cases() {
        let documents = documents(&case.manifests());
        for (arrangement, files) in arrangements(&documents) {
            let directory = tempfile::tempdir().unwrap();
            for (number, file) in files.iter().filter(|file| !file.is_empty()).enumerate() {
                fs::write(directory.path().join(format!("{number:03}.yaml")), file).unwrap();
            }
            let content = model::build(&case.with_manifests(directory.path()).unwrap());
            let way = format!("{}: {arrangement}", case.name);
            assert_eq!(
                without_files(&model::dump(&content)),
                without_files(&case.snapshot()),
                "{way}"
            );
            assert_eq!(model::dump_tables(&content.tables), case.maps(), "{way}");
        }
    }
}

/// The documents of all files, in order.
fn documents(manifests: &Path) -> Vec<String> {
    let mut files: Vec<_> = fs::read_dir(manifests)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    files
        .iter()
        .flat_map(|file| {
            let text = fs::read_to_string(file).unwrap();
            text.split("\n---\n").map(str::to_owned).collect::<Vec<_>>()
        })
        .collect()
}

/// The same documents in one file, in a file each, backwards, and rotated into two files.
fn arrangements(documents: &[String]) -> Vec<(&'static str, Vec<String>)> {
    let backwards: Vec<_> = documents.iter().rev().cloned().collect();
    let (front, back) = documents.split_at(documents.len() / 2);
    vec![
        ("one file", vec![documents.join("\n---\n")]),
        ("a file each", documents.to_vec()),
        ("one file, backwards", vec![backwards.join("\n---\n")]),
        ("a file each, backwards", backwards),
        ("two files, swapped", vec![back.join("\n---\n"), front.join("\n---\n")]),
    ]
}

/// Without the lines that name files: those must differ.
fn without_files(dump: &str) -> String {
    dump.lines()
        .filter(|line| !line.starts_with("set-aside File ") && !line.contains(" duplicate: stands in "))
        .map(|line| format!("{line}\n"))
        .collect()
}
