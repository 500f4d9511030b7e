//! `cargo xtask demo`: from a bare machine to the growing table: checks, installs, builds, and hands over to the demo itself.

use std::{
    io::IsTerminal,
    os::unix::process::CommandExt,
    path::PathBuf,
    process::Command,
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, Result, bail};

use crate::{build_ebpf, command, machine, setup};

/// What `cargo xtask demo` takes.
#[derive(clap::Args)]
pub struct Args {
    /// Only list what is missing on this machine, install nothing
    #[arg(long)]
    no_install: bool,
    /// Leave everything running at the end, and say what to try by hand
    #[arg(long, conflicts_with = "down")]
    keep: bool,
    /// Take away what an earlier `--keep` left running
    #[arg(long)]
    down: bool,
}

/// The demo itself: a program of the crate mesh-tests.
const DEMO: &str = "weft-demo";
/// Columns of cargo's progress bar; cargo wants a number as soon as the bar is asked for.
const PROGRESS_WIDTH: &str = "80";

/// Does what the demo needs first, then becomes the demo.
///
/// # Errors
/// If the machine will not do, something could not be installed, or the build fails.
pub fn run(args: &Args) -> Result<()> {
    let started_ms = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .context("the clock stands before 1970")?
        .as_millis();
    if args.down {
        take_down()
    } else {
        command::step("setup", || setup::ensure(setup::Purpose::Demo, args.no_install))?;
        let building = Instant::now();
        command::step("build-ebpf", || build_ebpf::run(&build_ebpf::Args::default()))?;
        command::step("build", || command::run(with_progress(&mut build_binaries())))?;
        println!("== the build took {:.1} s", building.elapsed().as_secs_f64());
        let mut demo = demo();
        demo.env("WEFT_DEMO_STARTED", started_ms.to_string());
        if args.keep {
            demo.arg("--keep");
        }
        become_it(&mut demo)
    }
}

/// Builds the programs that the demo and the tests start: the daemon, its test servers, the demo.
pub fn build_binaries() -> Command {
    let mut cargo = command::cargo();
    // the whole workspace, as the tests: another selection means other features, and everything is compiled twice
    cargo.args(["build", "--workspace", "--bins"]);
    cargo
}

/// The folder with the programs of [`build_binaries`].
pub fn bin_dir() -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| "target".into(), PathBuf::from);
    command::workspace().join(target).join("debug")
}

/// What was built for `--keep` knows how to end it; only if it is gone, it is built again.
fn take_down() -> Result<()> {
    if !machine::is_root() {
        bail!("the demo runs as root, so `--down` needs root too; run it again with `sudo -E`");
    }
    if !bin_dir().join(DEMO).exists() || !bin_dir().join("mesh-daemon").exists() {
        command::run(with_progress(&mut build_binaries()))?;
    }
    become_it(demo().arg("--down"))
}

fn demo() -> Command {
    let mut demo = command::program(bin_dir().join(DEMO));
    demo.env("WEFT_BIN_DIR", bin_dir());
    demo
}

/// On success this process is the demo, and never comes back here.
fn become_it(demo: &mut Command) -> Result<()> {
    let error = demo.exec();
    Err(error).with_context(|| format!("could not start {}", bin_dir().join(DEMO).display()))
}

/// A bar for people, plain lines for logs.
fn with_progress(cargo: &mut Command) -> &mut Command {
    if std::io::stderr().is_terminal() {
        cargo
            .env("CARGO_TERM_PROGRESS_WHEN", "always")
            .env("CARGO_TERM_PROGRESS_WIDTH", PROGRESS_WIDTH);
    }
    cargo
}
