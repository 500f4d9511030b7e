//! What a run of the Gateway API's conformance suite needs beside a cluster: the suite, the echo application of its pods, and the API's CRDs, all
//! from Go modules. Nothing else uses them, so nothing else builds them.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

use crate::kubernetes::{
    go::Go,
    programs::{self, Package, Program, Set},
};

/// The suite's version, and that of the CRDs: the suite refuses others. 1.7.0 needs Go 1.27 and a module that cannot be had.
const SUITE: &str = "1.6.3";
/// The folders below tests/kubernetes.
const SUITE_FOLDER: &str = "conformance";
const ECHO_FOLDER: &str = "echo";
/// The test program of the suite.
const SUITE_PROGRAM: &str = "gateway-conformance";
/// The suite, and Istio's echo application, which the image of the suite's pods contains.
const PROGRAMS: [Program; 3] = [
    Program {
        name: SUITE_PROGRAM,
        folder: SUITE_FOLDER,
        files: &["conformance_test.go", "go.mod", "go.sum"],
        package: Package::Tests,
        minutes: 2,
    },
    Program {
        name: "server",
        folder: ECHO_FOLDER,
        files: &["tools.go", "go.mod", "go.sum"],
        package: Package::Of("istio.io/istio/pkg/test/echo/cmd/server"),
        minutes: 1,
    },
    Program {
        name: "client",
        folder: ECHO_FOLDER,
        files: &["tools.go", "go.mod", "go.sum"],
        package: Package::Of("istio.io/istio/pkg/test/echo/cmd/client"),
        minutes: 1,
    },
];
/// Files and folders of modules that a run needs too: the folder of the `go.mod`, the module, the place in it, the name in the build.
const FILES: [(&str, &str, &str, &str); 4] = [
    // the experimental channel: `retry`, XBackendTrafficPolicy and XMesh are only there
    (SUITE_FOLDER, "sigs.k8s.io/gateway-api", "config/crd/experimental", CRDS),
    (
        SUITE_FOLDER,
        "sigs.k8s.io/gateway-api/conformance",
        "mesh/manifests.yaml",
        MANIFESTS,
    ),
    // the pair that the image of the suite's pods has as /cert.crt and /cert.key
    (
        ECHO_FOLDER,
        "istio.io/istio",
        "tests/testdata/certs/dns/cert-chain.pem",
        CERTIFICATE,
    ),
    (ECHO_FOLDER, "istio.io/istio", "tests/testdata/certs/dns/key.pem", KEY),
];
const CRDS: &str = "crds";
const MANIFESTS: &str = "mesh-manifests.yaml";
const CERTIFICATE: &str = "cert.crt";
const KEY: &str = "cert.key";

/// A build of all of it.
pub struct Programs {
    dir: PathBuf,
}

/// What the image of the suite's pods is made of.
pub struct Echo {
    /// The reference that the suite's manifests ask for.
    pub image: String,
    /// Programs, by their name in the image and where they were built.
    pub programs: [(&'static str, PathBuf); 2],
    /// Other files, by their path in the image and where they are.
    pub files: [(&'static str, PathBuf); 2],
}

/// Builds it, unless exactly it is there.
///
/// # Errors
/// If Go cannot be fetched, a build fails, or a module lacks a file.
pub fn build() -> Result<Programs> {
    Ok(Programs {
        dir: set().build(copy_files)?,
    })
}

impl Programs {
    /// The folder that the runs read: the suite's program and the CRDs.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// What the pods' image is made of.
    ///
    /// # Errors
    /// If the suite's manifests name no image.
    pub fn echo(&self) -> Result<Echo> {
        let at = |name: &str| self.dir.join(name);
        let manifests = at(MANIFESTS);
        let text = fs::read_to_string(&manifests).with_context(|| format!("could not read {}", manifests.display()))?;
        let image = only_image(&text).with_context(|| format!("{} should name one image", manifests.display()))?;
        Ok(Echo {
            image: image.to_owned(),
            programs: ["server", "client"].map(|name| (name, at(name))),
            files: [("/cert.crt", at(CERTIFICATE)), ("/cert.key", at(KEY))],
        })
    }
}

fn set() -> Set {
    Set {
        title: "the Gateway API's conformance suite and its echo application",
        prefix: "conformance-",
        version: SUITE.to_owned(),
        programs: &PROGRAMS,
        flags: programs::flags(&[]),
        memory: "up to 1 GB of memory",
        also: FILES
            .iter()
            .flat_map(|(_, module, from, to)| [*module, *from, *to])
            .collect(),
    }
}

/// Puts the modules' files into the build: the folder of modules is the user's, who may empty it.
fn copy_files(go: &Go, dir: &Path) -> Result<()> {
    for (folder, module, from, to) in FILES {
        let from = go.module_dir(&programs::source_folder(folder), module)?.join(from);
        copy(&from, &dir.join(to)).with_context(|| format!("could not copy {}", from.display()))?;
    }
    Ok(())
}

/// Copies a file, or a folder of files; what modules have is read-only, and the copy is not.
fn copy(from: &Path, to: &Path) -> std::io::Result<()> {
    if !from.is_dir() {
        return fs::write(to, fs::read(from)?);
    }
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        fs::write(to.join(entry.file_name()), fs::read(entry.path())?)?;
    }
    Ok(())
}

/// The image that all containers of these manifests run; none if they differ or there are none.
fn only_image(manifests: &str) -> Option<&str> {
    let mut images = manifests.lines().filter_map(|line| {
        let line = line.trim_start().trim_start_matches("- ");
        line.strip_prefix("image:").map(str::trim)
    });
    let first = images.next()?;
    images.all(|image| image == first).then_some(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_the_one_that_is_built() {
        let module = fs::read_to_string(programs::source_folder(SUITE_FOLDER).join("go.mod")).unwrap();
        for part in ["gateway-api", "gateway-api/conformance"] {
            assert!(module.contains(&format!("sigs.k8s.io/{part} v{SUITE}")), "{part}");
        }
    }

    #[test]
    fn a_build_of_it_is_no_build_of_kubernetes() {
        let name = set().folder_of(&set().sum().unwrap());
        assert!(name.starts_with("conformance-1.6.3-"), "{name}");
    }

    #[test]
    fn the_image_is_the_one_that_all_pods_run() {
        for (manifests, image) in [
            ("  - name: echo\n    image: r/echo:v1\n", Some("r/echo:v1")),
            ("- image: r/echo:v1\n---\n    image: r/echo:v1\n", Some("r/echo:v1")),
            ("image: r/echo:v1\nimage: r/other:v1\n", None),
            ("kind: Namespace\nimagePullPolicy: Never\n", None),
        ] {
            assert_eq!(only_image(manifests), image, "{manifests}");
        }
    }
}
