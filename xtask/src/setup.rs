//! `cargo xtask setup`: what a fresh Debian 12 lacks, named and then installed.

mod apt;

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};

use crate::{
    command, machine,
    toolchain::{self, Compiler},
};

/// What `cargo xtask setup` takes.
#[derive(clap::Args, Default)]
pub struct Args {
    /// Only list what is missing; the exit code says whether anything is
    #[arg(long)]
    pub no_install: bool,
}

/// What somebody wants to do, and therefore needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Purpose {
    /// `build-ebpf` and the demo.
    Demo,
    /// A real Kubernetes: its build, and nodes with a container runtime.
    Cluster,
    /// The rings of tests as well.
    Test,
}

/// The version that fits the compilers of the day; the linker and the compiler must share their LLVM.
const BPF_LINKER_VERSION: &str = "0.13.0";
/// The tool folder of the workspace: nothing goes into the user's home.
pub const TOOLS: &str = ".tools";
/// Debian's own folders. A program of this name elsewhere may be another one.
const DEBIAN_PATH: [&str; 4] = ["/usr/sbin", "/usr/bin", "/sbin", "/bin"];

/// A Debian package, the program or file that shows that it is there, and who needs it.
const PACKAGES: [(&str, &str, Purpose); 13] = [
    ("iproute2", "ip", Purpose::Demo),
    ("nftables", "nft", Purpose::Demo),
    ("curl", "curl", Purpose::Demo),
    // Go comes from a wheel
    ("python3-pip", "pip3", Purpose::Cluster),
    ("containerd", "containerd", Purpose::Cluster),
    ("runc", "runc", Purpose::Cluster),
    ("containernetworking-plugins", "/usr/lib/cni/ptp", Purpose::Cluster),
    // for the plugin of pods' host ports
    ("iptables", "iptables", Purpose::Cluster),
    ("busybox-static", "busybox", Purpose::Cluster),
    ("nginx-light", "nginx", Purpose::Test),
    ("wrk", "wrk", Purpose::Test),
    ("nghttp2-client", "h2load", Purpose::Test),
    ("faketime", "faketime", Purpose::Test),
];
/// Debian's compiler with the prebuilt core for BPF; brings the libLLVM that bpf-linker links to.
const COMPILER_PACKAGES: [&str; 2] = ["rustc-web", "libstd-rust-web-dev-bpf"];
/// Components of rustup's default profile that `check` and `test` use, by the program that shows them.
const COMPONENTS: [(&str, &str); 2] = [("rustfmt", "fmt"), ("clippy", "clippy")];

/// What is missing on this machine.
#[derive(Debug, Default, PartialEq, Eq)]
struct Missing {
    packages: Vec<String>,
    components: Vec<&'static str>,
    bpf_linker: bool,
}

/// Installs everything that building, showing and testing Weft needs.
///
/// # Errors
/// If the machine will not do, or something is missing and could not or should not be installed.
pub fn run(args: &Args) -> Result<()> {
    ensure(Purpose::Test, args.no_install)
}

/// Checks the machine, then finds what is missing for this purpose and installs it unless told not to.
///
/// # Errors
/// If the machine will not do, or something is missing and could not or should not be installed.
pub fn ensure(purpose: Purpose, no_install: bool) -> Result<()> {
    machine::preflight()?;
    let missing = find_missing(purpose);
    if missing == Missing::default() {
        println!("   nothing is missing: {}", checked(purpose));
        return Ok(());
    }
    println!("   missing: {}", missing.list());
    if no_install {
        bail!("not installed: {}; `cargo xtask setup` installs it", missing.list());
    }
    apt::install(&missing.packages)?;
    for component in &missing.components {
        command::run(command::program("rustup").args(["component", "add", component]))?;
    }
    install_bpf_linker()?;
    let still = find_missing(purpose);
    if still != Missing::default() {
        bail!(
            "still missing after the installation: {}; see the output above",
            still.list()
        );
    }
    Ok(())
}

/// What [`ensure`] looked at, for people who want to know what "nothing" is.
fn checked(purpose: Purpose) -> String {
    let programs = PACKAGES.iter().filter(|(_, _, needed_by)| *needed_by <= purpose);
    let programs: Vec<_> = programs.map(|(_, program, _)| *program).collect();
    let components = if purpose < Purpose::Test {
        ""
    } else {
        "rustfmt, clippy, "
    };
    format!(
        "Linux, root, Rust, {components}a compiler for BPF with its libLLVM, bpf-linker {BPF_LINKER_VERSION}, {}",
        programs.join(", ")
    )
}

/// Where bpf-linker of this LLVM version is, or would be.
pub fn bpf_linker(llvm: u32) -> PathBuf {
    bpf_linker_root(llvm).join("bin/bpf-linker")
}

/// Whether it is there and starts: its libLLVM may have been removed since.
pub fn bpf_linker_runs(linker: &Path) -> bool {
    command::output_of(command::program(linker).arg("--version"))
        .is_some_and(|version| version.contains(BPF_LINKER_VERSION))
}

fn find_missing(purpose: Purpose) -> Missing {
    let compiler = toolchain::find();
    let llvm = compiler.and_then(|compiler| compiler.llvm_major().ok());
    let components: &[_] = if purpose < Purpose::Test { &[] } else { &COMPONENTS };
    Missing {
        packages: packages(
            purpose,
            in_debian_path,
            compiler_packages(compiler, llvm, |major| toolchain::lib_llvm(major).is_some()),
        ),
        components: components
            .iter()
            .filter(|(_, subcommand)| command::output_of(command::cargo().args([subcommand, "--version"])).is_none())
            .map(|(component, _)| *component)
            .collect(),
        bpf_linker: !llvm.is_some_and(|llvm| bpf_linker_runs(&bpf_linker(llvm))),
    }
}

/// The packages for this purpose whose program is not there, after those that the compiler lacks.
fn packages(purpose: Purpose, present: impl Fn(&str) -> bool, compiler: Vec<String>) -> Vec<String> {
    let tools = PACKAGES
        .iter()
        .filter(|(_, brings, needed_by)| *needed_by <= purpose && !present(brings));
    compiler
        .into_iter()
        .chain(tools.map(|(package, ..)| (*package).to_owned()))
        .collect()
}

/// What is missing to build for BPF: a compiler, or the libLLVM of the one that is there.
fn compiler_packages(compiler: Option<Compiler>, llvm: Option<u32>, has_lib_llvm: impl Fn(u32) -> bool) -> Vec<String> {
    match (compiler, llvm) {
        (Some(_), Some(major)) if has_lib_llvm(major) => Vec::new(),
        // a nightly may be ahead of what Debian packages; then Debian's own compiler is the way
        (Some(Compiler::Nightly), Some(major)) if apt::knows(&lib_llvm_package(major)) => vec![lib_llvm_package(major)],
        _ => COMPILER_PACKAGES.map(str::to_owned).to_vec(),
    }
}

fn lib_llvm_package(major: u32) -> String {
    format!("libllvm{major}")
}

fn in_debian_path(program: &str) -> bool {
    DEBIAN_PATH
        .iter()
        // a file with a full path stays what it is
        .any(|folder| Path::new(folder).join(program).exists())
}

fn bpf_linker_root(llvm: u32) -> PathBuf {
    // the name says everything that decides whether it is the right one
    command::workspace()
        .join(TOOLS)
        .join(format!("bpf-linker-{BPF_LINKER_VERSION}-llvm-{llvm}"))
}

/// Builds bpf-linker against the libLLVM of the compiler that was chosen.
fn install_bpf_linker() -> Result<()> {
    let compiler = toolchain::find().context("no compiler for BPF was found after the installation")?;
    let llvm = compiler.llvm_major()?;
    let root = bpf_linker_root(llvm);
    if bpf_linker_runs(&bpf_linker(llvm)) {
        return Ok(());
    }
    println!(
        "   building bpf-linker {BPF_LINKER_VERSION} for LLVM {llvm} into {}, one to two minutes",
        root.display()
    );
    let library = toolchain::lib_llvm(llvm).with_context(|| format!("libLLVM of version {llvm} is not installed"))?;
    let prefix = root.join("llvm");
    fs::create_dir_all(prefix.join("lib")).with_context(|| format!("could not make {}", prefix.display()))?;
    let link = prefix.join("lib/libLLVM.so");
    let _ = fs::remove_file(&link);
    symlink(&library, &link).with_context(|| format!("could not link {}", link.display()))?;
    let objects = root.join("build");
    let mut cargo = command::cargo();
    cargo.args([
        "install",
        "bpf-linker",
        "--version",
        BPF_LINKER_VERSION,
        "--locked",
        "--force",
    ]);
    cargo
        .args(["--no-default-features", "--features", &format!("llvm-{llvm}"), "--root"])
        .arg(&root);
    // cargo would warn that the folder is not in PATH, where it need not be
    let mut path = vec![root.join("bin")];
    path.extend(std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()));
    cargo.env(
        "PATH",
        std::env::join_paths(path).context("a folder in PATH has a colon")?,
    );
    cargo.env("LLVM_PREFIX", &prefix).env("CARGO_TARGET_DIR", &objects);
    command::run(&mut cargo)?;
    // 300 MB that nobody needs again
    fs::remove_dir_all(&objects).with_context(|| format!("could not remove {}", objects.display()))
}

impl Missing {
    fn list(&self) -> String {
        let packages = (!self.packages.is_empty()).then(|| format!("Debian packages {}", self.packages.join(" ")));
        let components =
            (!self.components.is_empty()).then(|| format!("rustup components {}", self.components.join(" ")));
        let linker = self
            .bpf_linker
            .then(|| format!("bpf-linker {BPF_LINKER_VERSION} (goes into {TOOLS})"));
        [packages, components, linker]
            .into_iter()
            .flatten()
            .collect::<Vec<_>>()
            .join("; ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_absent_and_needed_is_installed() {
        let none: [&str; 0] = [];
        let cluster = ["pip3", "containerd", "runc", "/usr/lib/cni/ptp", "iptables", "busybox"];
        for (purpose, present, expected) in [
            (Purpose::Demo, vec![], vec!["iproute2", "nftables", "curl"]),
            (Purpose::Demo, vec!["ip", "curl"], vec!["nftables"]),
            (
                Purpose::Cluster,
                vec!["ip", "curl", "nft", "runc", "iptables", "busybox"],
                vec!["python3-pip", "containerd", "containernetworking-plugins"],
            ),
            (
                Purpose::Test,
                [&["ip", "curl", "nft", "nginx"][..], &cluster].concat(),
                vec!["wrk", "nghttp2-client", "faketime"],
            ),
            (
                Purpose::Test,
                [
                    &["ip", "curl", "nft", "nginx", "wrk", "h2load", "faketime"][..],
                    &cluster,
                ]
                .concat(),
                none.to_vec(),
            ),
        ] {
            assert_eq!(
                packages(purpose, |program| present.contains(&program), Vec::new()),
                expected,
                "{purpose:?} {present:?}"
            );
        }
    }

    #[test]
    fn a_compiler_without_its_llvm_is_not_enough() {
        for (compiler, llvm, has_lib_llvm, expected) in [
            (None, None, true, COMPILER_PACKAGES.to_vec()),
            (Some(Compiler::Debian), Some(22), true, vec![]),
            (Some(Compiler::Debian), Some(22), false, COMPILER_PACKAGES.to_vec()),
            (Some(Compiler::Nightly), Some(22), true, vec![]),
            (Some(Compiler::Nightly), None, true, COMPILER_PACKAGES.to_vec()),
        ] {
            assert_eq!(
                compiler_packages(compiler, llvm, |_| has_lib_llvm),
                expected,
                "{compiler:?} {llvm:?} {has_lib_llvm}"
            );
        }
    }

    #[test]
    fn a_file_is_looked_for_where_it_is_and_a_program_in_debians_folders() {
        for (marker, there) in [
            ("/proc/self/status", true),
            ("/proc/self/nothing", false),
            ("sh", true),
            ("proc", false),
        ] {
            assert_eq!(in_debian_path(marker), there, "{marker}");
        }
    }

    #[test]
    fn what_was_checked_is_what_is_needed() {
        for (purpose, has, lacks) in [
            (Purpose::Demo, "nft", "runc"),
            (Purpose::Cluster, "/usr/lib/cni/ptp", "wrk"),
            (Purpose::Test, "wrk", "nothing"),
        ] {
            let text = checked(purpose);
            assert!(text.contains(has) && !text.contains(lacks), "{purpose:?}: {text}");
        }
    }

    #[test]
    fn what_is_missing_is_named() {
        let missing = Missing {
            packages: vec!["wrk".into(), "curl".into()],
            components: vec!["clippy"],
            bpf_linker: true,
        };
        assert_eq!(
            missing.list(),
            "Debian packages wrk curl; rustup components clippy; bpf-linker 0.13.0 (goes into .tools)"
        );
        assert_eq!(Missing::default().list(), "");
    }
}
