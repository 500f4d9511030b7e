//! `cargo xtask kubernetes`: Kubernetes' own programs and CoreDNS, built from Go modules into the tool folder by a Go of the workspace's own.

mod folders;
pub mod go;
pub mod programs;

use std::{
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

use programs::{Package, Program, Set};

/// What `go.mod` asks for; the servers say it to clients, which parse it.
const KUBERNETES: (u32, u32, u32) = (1, 36, 2);
/// What decides a program, within its folder.
const SOURCE_FILES: [&str; 3] = ["main.go", "go.mod", "go.sum"];
/// Kubernetes itself, and the cluster's DNS server.
const PROGRAMS: [Program; 2] = [
    Program {
        name: "weft-kube",
        folder: "kube",
        files: &SOURCE_FILES,
        package: Package::Main,
        minutes: 8,
    },
    Program {
        name: "coredns",
        folder: "coredns",
        files: &SOURCE_FILES,
        package: Package::Main,
        minutes: 2,
    },
];
/// Names under which a program does one part of its work: what is put on PATH.
const LINKS: [(&str, &str); 8] = [
    ("etcd", "weft-kube"),
    ("kube-apiserver", "weft-kube"),
    ("kube-controller-manager", "weft-kube"),
    ("kube-proxy", "weft-kube"),
    ("kube-scheduler", "weft-kube"),
    ("kubectl", "weft-kube"),
    ("kubelet", "weft-kube"),
    ("coredns", "coredns"),
];

/// Builds what is not built yet.
///
/// # Errors
/// As [`build`].
pub fn run() -> Result<()> {
    let dir = build()?;
    println!(
        "   Kubernetes is in {}; put its bin/ on PATH to use it by hand",
        dir.display()
    );
    Ok(())
}

/// Builds Kubernetes and CoreDNS, unless exactly these are there, and returns their folder; builds of other sources are removed.
///
/// # Errors
/// If Go cannot be fetched, or a build fails.
pub fn build() -> Result<PathBuf> {
    set().build(|_, dir| link(dir))
}

fn set() -> Set {
    let (major, minor, patch) = KUBERNETES;
    Set {
        title: "Kubernetes",
        prefix: "kubernetes-",
        version: format!("{major}.{minor}.{patch}"),
        programs: &PROGRAMS,
        flags: programs::flags(&versions()),
        memory: "up to 2.5 GB of memory",
        also: LINKS.iter().flat_map(|(link, program)| [*link, *program]).collect(),
    }
}

/// The version in the two places where Kubernetes looks for it: one that clients can parse.
fn versions() -> Vec<String> {
    let (major, minor, patch) = KUBERNETES;
    let packages = ["k8s.io/component-base/version", "k8s.io/client-go/pkg/version"];
    let variables = packages.map(|package| {
        [
            format!("{package}.gitVersion=v{major}.{minor}.{patch}"),
            format!("{package}.gitMajor={major}"),
            format!("{package}.gitMinor={minor}"),
        ]
    });
    variables.concat()
}

/// Puts the usual names into the folder `bin` of a build.
fn link(dir: &Path) -> Result<()> {
    let bin = folders::empty(&dir.join("bin"))?;
    for (link, program) in LINKS {
        symlink(Path::new("..").join(program), bin.join(link)).with_context(|| format!("could not link {link}"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn the_folder_says_the_version_and_changes_with_the_sources() {
        let sum = set().sum().unwrap();
        assert_eq!(sum.len(), 64, "{sum}");
        let name = set().folder_of(&sum);
        assert!(
            name.starts_with("kubernetes-1.36.2-") && name.ends_with(&sum[..12]),
            "{name}"
        );
    }

    #[test]
    fn the_version_is_the_one_that_is_built() {
        let (major, minor, patch) = KUBERNETES;
        let module = fs::read_to_string(programs::source_folder("kube").join("go.mod")).unwrap();
        assert!(module.contains(&format!("k8s.io/kubernetes v{major}.{minor}.{patch}\n")));
        let flags = set().flags.join(" ");
        assert!(flags.contains("component-base/version.gitVersion=v1.36.2"), "{flags}");
    }
}
