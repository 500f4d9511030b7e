//! `cargo xtask check`: everything that can be said about the source without root and without a network.

use anyhow::{Result, bail};

use crate::{
    build_ebpf, command,
    test::{self, Ring},
    tidy,
    toolchain::{self, Compiler},
};

/// What `cargo xtask check` takes.
#[derive(clap::Args)]
pub struct Args {
    /// Leave out the fast rings (pure and golden)
    #[arg(long)]
    no_tests: bool,
}

/// The static checks, then the fast rings.
///
/// # Errors
/// If anything is found.
pub fn run(args: &Args) -> Result<()> {
    static_checks()?;
    if args.no_tests {
        return Ok(());
    }
    test::conclude(
        &[Ring::Pure, Ring::Golden].map(|ring| test::run_ring(ring, false)),
        Vec::new(),
    )
}

/// A check and its name.
type Check = (&'static str, fn() -> Result<()>);

/// Formatting, tidy, lints and documentation. All of them run, so that one run shows everything.
///
/// # Errors
/// Names the checks that found something.
pub fn static_checks() -> Result<()> {
    let checks: [Check; 5] = [
        ("tidy", tidy::check),
        ("fmt", fmt),
        ("clippy", clippy),
        ("clippy on mesh-ebpf", clippy_ebpf),
        ("doc", doc),
    ];
    let failed: Vec<_> = checks
        .into_iter()
        .filter_map(|(name, check)| {
            command::step(name, check)
                .err()
                .map(|error| format!("{name} ({error:#})"))
        })
        .collect();
    if failed.is_empty() {
        Ok(())
    } else {
        bail!("{}", failed.join("; "))
    }
}

fn fmt() -> Result<()> {
    command::run(command::cargo().args(["fmt", "--all", "--check"]))?;
    command::run(command::cargo().args(["fmt", "--check", "--manifest-path", "mesh-ebpf/Cargo.toml"]))
}

/// With all features: tests and log lines behind one are code too.
fn clippy() -> Result<()> {
    command::run(command::cargo().args([
        "clippy",
        "--workspace",
        "--all-targets",
        "--all-features",
        "--",
        "-D",
        "warnings",
    ]))
}

/// Only a nightly with rust-src brings a clippy that knows the BPF target; Debian's compiler has none.
fn clippy_ebpf() -> Result<()> {
    if toolchain::find() != Some(Compiler::Nightly) {
        println!("   NOT DONE: the compiler for BPF here has no clippy; a rustup nightly with rust-src and clippy has");
        return Ok(());
    }
    let mut cargo = build_ebpf::cargo(Compiler::Nightly);
    cargo.args([
        "clippy",
        "--locked",
        "--target",
        toolchain::TARGET,
        "-Z",
        "build-std=core",
        "--",
        "-D",
        "warnings",
    ]);
    command::run(&mut cargo)
}

fn doc() -> Result<()> {
    let mut cargo = command::cargo();
    cargo
        .args(["doc", "--workspace", "--no-deps", "--quiet"])
        .env("RUSTDOCFLAGS", "-D warnings");
    command::run(&mut cargo)
}
