//! Which files of a directory count, and what holds after one changed for the worse.

use std::{fs, os::unix::fs::symlink, path::Path};

use super::pod;
use crate::watch::{
    Error,
    manifest::{Directory, read_dir},
    objects::Objects,
};

fn pods(objects: &Objects) -> Vec<String> {
    let ips = objects.pods.iter();
    ips.map(|(name, pod)| format!("{} {}", name.name, pod.ips[0])).collect()
}

fn reasons(objects: &Objects) -> Vec<&'static str> {
    objects.refused.iter().map(|item| item.reason).collect()
}

fn write(dir: &Path, name: &str, text: &str) {
    fs::write(dir.join(name), text).unwrap();
}

#[test]
fn only_manifests_of_the_directory_itself_are_read() {
    let dir = tempfile::tempdir().unwrap();
    for (index, name) in ["a.yaml", "b.yml", "c.json"].iter().enumerate() {
        let text = format!(r#"{{"apiVersion": "v1", "kind": "Namespace", "metadata": {{"name": "n{index}"}}}}"#);
        write(dir.path(), name, &text);
    }
    for name in [".a.yaml", "#b.yaml", "b.yaml~", ".b.yaml.swp", "notes.txt", "yaml"] {
        write(dir.path(), name, "{ not a manifest");
    }
    fs::create_dir(dir.path().join("sub.yaml")).unwrap();
    write(&dir.path().join("sub.yaml"), "d.yaml", "{ not read");
    symlink("nowhere.yaml", dir.path().join("link.yaml")).unwrap();
    nix::unistd::mkfifo(&dir.path().join("fifo.yaml"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    let objects = read_dir(dir.path()).unwrap();
    assert_eq!(objects.namespaces.keys().collect::<Vec<_>>(), ["n0", "n1", "n2"]);
    assert_eq!(reasons(&objects), [""; 0]);
}

#[test]
fn at_the_start_what_cannot_be_read_is_an_error_with_one_sentence() {
    let dir = tempfile::tempdir().unwrap();
    let missing = dir.path().join("missing");
    let error = read_dir(&missing).unwrap_err();
    assert!(matches!(error, Error::Directory { .. }));
    assert!(error.to_string().contains("missing"), "{error}");
    write(dir.path(), "bad.yaml", "a: 1\nb: [1, 2\nc: 3\n");
    let error = read_dir(dir.path()).unwrap_err().to_string();
    assert!(error.contains("bad.yaml does not parse"), "{error}");
    assert!(error.contains("line 3"), "{error}");
    fs::write(dir.path().join("bad.yaml"), b"a: \xff").unwrap();
    assert!(matches!(read_dir(dir.path()), Err(Error::Unparsable { .. })));
}

#[test]
fn a_file_beyond_the_bound_is_set_aside() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "a.yaml", &pod("a", "10.0.0.1"));
    let large = fs::File::create(dir.path().join("b.yaml")).unwrap();
    large.set_len((16 << 20) + 1).unwrap();
    let objects = read_dir(dir.path()).unwrap();
    assert_eq!(pods(&objects), ["a 10.0.0.1"]);
    assert_eq!(reasons(&objects), ["too_large"]);
}

#[test]
fn of_duplicates_the_first_file_by_name_holds() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "b.yaml", &pod("a", "10.0.0.2"));
    write(dir.path(), "a.yaml", &pod("a", "10.0.0.1"));
    let objects = read_dir(dir.path()).unwrap();
    assert_eq!(pods(&objects), ["a 10.0.0.1"]);
    assert_eq!(reasons(&objects), ["duplicate"]);
    let detail = &objects.refused.first().unwrap().detail;
    assert!(detail.contains("a.yaml") && detail.contains("b.yaml"), "{detail}");
}

/// Each step changes one file for the worse or the better: what holds then, and what is said.
#[test]
fn what_does_not_convert_keeps_its_last_good_version() {
    let dir = tempfile::tempdir().unwrap();
    let two = |first: &str| format!("{first}---\n{}", pod("b", "10.0.0.2"));
    let bad = pod("a", "10.0.0.9").replace("{nodeName: n1}", "7");
    write(dir.path(), "x.yaml", &two(&pod("a", "10.0.0.1")));
    let mut directory = Directory::open(dir.path().to_owned()).unwrap();
    let steps: [(String, &[&str], &[&str]); 8] = [
        ("[half".to_owned(), &["a 10.0.0.1", "b 10.0.0.2"], &["unparsable"]),
        (two(&pod("a", "10.0.0.3")), &["a 10.0.0.3", "b 10.0.0.2"], &[]),
        (two(&bad), &["a 10.0.0.3", "b 10.0.0.2"], &["malformed"]),
        // still the last good one, after a second bad one
        (bad.clone(), &["a 10.0.0.3"], &["malformed"]),
        (String::new(), &["a 10.0.0.3"], &["malformed", "empty"]),
        (pod("b", "10.0.0.4"), &["b 10.0.0.4"], &[]),
        // nothing good is remembered once the object was gone
        (bad, &[], &["malformed"]),
        (two(&pod("a", "10.0.0.5")), &["a 10.0.0.5", "b 10.0.0.2"], &[]),
    ];
    for (index, (text, holds, says)) in steps.iter().enumerate() {
        write(dir.path(), "x.yaml", text);
        directory.refresh();
        let objects = directory.objects();
        assert_eq!(pods(&objects), *holds, "step {index}");
        let mut found = reasons(&objects);
        found.sort_unstable();
        let mut says = says.to_vec();
        says.sort_unstable();
        assert_eq!(found, says, "step {index}");
    }
}
