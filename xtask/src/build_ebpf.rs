//! `cargo xtask build-ebpf`: the kernel half, built by whichever compiler can, to the file that the daemon's build embeds.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};

use crate::{
    command, setup,
    toolchain::{self, Compiler},
};

/// What `cargo xtask build-ebpf` takes.
#[derive(clap::Args, Default)]
pub struct Args {
    /// Let the packet path write log lines (aya-log); the daemon must be built with its feature `ebpf-log`
    #[arg(long)]
    pub debug_log: bool,
}

/// The crate of the kernel half: a workspace of its own.
pub const CRATE: &str = "mesh-ebpf";
/// Where the daemon's build.rs finds the object.
pub const OBJECT: &str = "mesh-ebpf/target/weft.o";

/// Builds the object and puts it where the daemon's build finds it.
///
/// # Errors
/// If no compiler or linker is there, or the build fails.
pub fn run(args: &Args) -> Result<()> {
    let Some(compiler) = toolchain::find() else {
        bail!(
            "no compiler here can build for {}: run `cargo xtask setup` first",
            toolchain::TARGET
        );
    };
    let llvm = compiler.llvm_major()?;
    let linker = setup::bpf_linker(llvm);
    if !setup::bpf_linker_runs(&linker) {
        bail!("bpf-linker for LLVM {llvm} is missing: run `cargo xtask setup` first");
    }
    println!("   building {CRATE} with {compiler}, LLVM {llvm}");
    command::run(&mut build(compiler, &linker, args))?;
    publish(&target_dir(compiler).join(toolchain::TARGET).join("release").join(CRATE))
}

/// The object that [`run`] made.
///
/// # Errors
/// If there is none.
pub fn object() -> Result<Vec<u8>> {
    let object = command::workspace().join(OBJECT);
    fs::read(&object).with_context(|| format!("could not read {}", object.display()))
}

/// A cargo for the kernel half with this compiler; the subcommand is the caller's to add.
pub fn cargo(compiler: Compiler) -> Command {
    let mut cargo = match compiler {
        Compiler::Debian => {
            let mut cargo = command::cargo();
            // aya-ebpf uses asm_experimental_arch, which a stable compiler refuses (E0554) unless the crate is let
            cargo
                .env("RUSTC", toolchain::DEBIAN_RUSTC)
                .env("RUSTC_BOOTSTRAP", "aya_ebpf");
            cargo
        }
        Compiler::Nightly => {
            let mut rustup = command::program("rustup");
            rustup.args(["run", "nightly", "cargo"]).env_remove("RUSTC");
            rustup
        }
    };
    // the user's own flags and wrappers are meant for the host
    for key in [
        "CARGO_ENCODED_RUSTFLAGS",
        "CARGO_BUILD_TARGET",
        "RUSTC_WRAPPER",
        "RUSTC_WORKSPACE_WRAPPER",
    ] {
        cargo.env_remove(key);
    }
    cargo
        .current_dir(command::workspace().join(CRATE))
        .env("CARGO_TARGET_DIR", target_dir(compiler));
    cargo
}

fn build(compiler: Compiler, linker: &Path, args: &Args) -> Command {
    let mut cargo = cargo(compiler);
    cargo.args(["build", "--release", "--locked", "--target", toolchain::TARGET]);
    if compiler == Compiler::Nightly {
        cargo.args(["-Z", "build-std=core"]);
    }
    if args.debug_log {
        cargo.args(["--features", "debug-log"]);
    }
    cargo.env("CARGO_TARGET_BPFEL_UNKNOWN_NONE_LINKER", linker);
    // BTF is made from debug information, and socket storage maps do not load without BTF
    cargo.env("RUSTFLAGS", "-Cdebuginfo=2 -Clink-arg=--btf");
    cargo
}

fn target_dir(compiler: Compiler) -> PathBuf {
    command::workspace().join(CRATE).join("target").join(compiler.folder())
}

/// Copies the object only if it differs: a newer file would make cargo build the daemon again.
fn publish(built: &Path) -> Result<()> {
    let object = command::workspace().join(OBJECT);
    let bytes = fs::read(built).with_context(|| format!("the build left no {}", built.display()))?;
    let changed = fs::read(&object).ok().as_ref() != Some(&bytes);
    if changed {
        fs::write(&object, &bytes).with_context(|| format!("could not write {}", object.display()))?;
    }
    println!(
        "   {OBJECT}: {} KiB{}",
        bytes.len() / 1024,
        if changed { "" } else { ", unchanged" }
    );
    Ok(())
}
