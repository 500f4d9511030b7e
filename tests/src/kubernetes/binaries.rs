//! Where Kubernetes' own programs are: built by `cargo xtask kubernetes`, found by an environment variable or in this checkout.

use std::{
    fs,
    path::{Path, PathBuf},
    time::SystemTime,
};

use anyhow::{Context, Result, bail};

/// The folder with the programs, if not this checkout's; `cargo xtask test` sets it.
const DIR_VARIABLE: &str = "WEFT_KUBE_DIR";
/// How the folders of builds are called in the tool folder.
const PREFIX: &str = "kubernetes-";
/// etcd and all of Kubernetes' programs in one.
const KUBE: &str = "weft-kube";
const COREDNS: &str = "coredns";

/// A folder with the programs of one build.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Binaries {
    dir: PathBuf,
}

impl Binaries {
    /// The folder in `WEFT_KUBE_DIR`, else the newest build of this checkout.
    ///
    /// # Errors
    /// If there is none, or it lacks a program; the text says how to build it.
    pub fn find() -> Result<Self> {
        let dir = match std::env::var_os(DIR_VARIABLE) {
            Some(dir) => dir.into(),
            None => newest(&checkout().join(".tools"))
                .context("Kubernetes was not built yet; `cargo xtask kubernetes` builds it")?,
        };
        Self::in_dir(dir)
    }

    /// The programs in this folder.
    ///
    /// # Errors
    /// If one is missing.
    pub fn in_dir(dir: impl Into<PathBuf>) -> Result<Self> {
        let dir = dir.into();
        for name in [KUBE, COREDNS] {
            if !dir.join(name).is_file() {
                bail!("{} has no {name}; `cargo xtask kubernetes` builds it", dir.display());
            }
        }
        Ok(Self { dir })
    }

    /// etcd, the API server, the controllers, the scheduler, kubelet, kube-proxy and kubectl in one: argument 1 says which.
    pub fn kube(&self) -> PathBuf {
        self.dir.join(KUBE)
    }

    /// The cluster's DNS server.
    pub fn coredns(&self) -> PathBuf {
        self.dir.join(COREDNS)
    }

    /// The folder with all of it.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The folder to put on PATH: `kubectl` and the others under their usual names.
    pub fn bin(&self) -> PathBuf {
        self.dir.join("bin")
    }
}

fn checkout() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_owned()
}

/// The build that was made last.
fn newest(tools: &Path) -> Option<PathBuf> {
    let builds = fs::read_dir(tools)
        .ok()?
        .flatten()
        .filter(|entry| entry.file_name().to_string_lossy().starts_with(PREFIX));
    let made = |path: &Path| {
        fs::metadata(path)
            .and_then(|data| data.modified())
            .unwrap_or(SystemTime::UNIX_EPOCH)
    };
    builds
        .map(|entry| entry.path())
        .filter(|path| path.is_dir())
        .max_by_key(|path| made(&path.join(KUBE)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_whole_build_is_found_and_a_missing_one_says_how_to_build_it() {
        let tools = tempfile::tempdir().unwrap();
        assert_eq!(newest(tools.path()), None);
        for (name, seconds) in [("kubernetes-1-old", 10), ("kubernetes-1-new", 20), ("other", 30)] {
            let dir = tools.path().join(name);
            fs::create_dir(&dir).unwrap();
            for program in [KUBE, COREDNS] {
                let file = fs::File::create(dir.join(program)).unwrap();
                file.set_modified(SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(seconds))
                    .unwrap();
            }
        }
        let newest = newest(tools.path()).unwrap();
        assert!(newest.ends_with("kubernetes-1-new"), "{}", newest.display());
        assert!(Binaries::in_dir(&newest).is_ok());
        fs::remove_file(newest.join(COREDNS)).unwrap();
        let error = Binaries::in_dir(&newest).unwrap_err().to_string();
        assert!(
            error.contains("coredns") && error.contains("cargo xtask kubernetes"),
            "{error}"
        );
    }
}
