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
    let not_done = static_checks()?;
    if !args.no_tests {
        test::conclude(
            &[Ring::Pure, Ring::Golden].map(|ring| test::run_ring(ring, false)),
            Vec::new(),
        )?;
    }
    println!("{}", verdict(&not_done));
    Ok(())
}

/// The last line of a success: what was left out must not be lost far above.
fn verdict(not_done: &[String]) -> String {
    if not_done.is_empty() {
        "check: everything passed".to_owned()
    } else {
        format!(
            "check: everything that was done passed; NOT DONE: {}",
            not_done.join("; ")
        )
    }
}

/// A check's result: why it could not be done here, if it could not.
type NotDone = Option<&'static str>;
/// A check and its name.
type Check = (&'static str, fn() -> Result<NotDone>);

/// Formatting, tidy, lints and documentation. All of them run, so that one run shows everything. Returns those that could not be
/// done here, with the reason.
///
/// # Errors
/// Names the checks that found something.
pub fn static_checks() -> Result<Vec<String>> {
    let checks: [Check; 5] = [
        ("tidy", || tidy::check().map(|()| None)),
        ("fmt", || fmt().map(|()| None)),
        ("clippy", || clippy().map(|()| None)),
        ("clippy on mesh-ebpf", clippy_ebpf),
        ("doc", || doc().map(|()| None)),
    ];
    let (mut failed, mut not_done) = (Vec::new(), Vec::new());
    for (name, check) in checks {
        match command::step(name, check) {
            Ok(None) => {}
            Ok(Some(why)) => not_done.push(format!("{name} ({why})")),
            Err(error) => failed.push(format!("{name} ({error:#})")),
        }
    }
    if failed.is_empty() {
        Ok(not_done)
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

const NO_EBPF_CLIPPY: &str = "the compiler for BPF here has no clippy; a rustup nightly with rust-src and clippy has";

/// Only a nightly with rust-src brings a clippy that knows the BPF target; Debian's compiler has none.
fn clippy_ebpf() -> Result<NotDone> {
    if toolchain::find() != Some(Compiler::Nightly) {
        println!("   NOT DONE: {NO_EBPF_CLIPPY}");
        return Ok(Some(NO_EBPF_CLIPPY));
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
    command::run(&mut cargo).map(|()| None)
}

fn doc() -> Result<()> {
    let mut cargo = command::cargo();
    cargo
        .args(["doc", "--workspace", "--no-deps", "--quiet"])
        .env("RUSTDOCFLAGS", "-D warnings");
    command::run(&mut cargo)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_verdict_repeats_what_was_not_done() {
        assert!(!verdict(&[]).contains("NOT DONE"));
        let text = verdict(&["clippy on mesh-ebpf (none here)".to_owned()]);
        assert!(text.contains("NOT DONE: clippy on mesh-ebpf (none here)"), "{text}");
    }
}
